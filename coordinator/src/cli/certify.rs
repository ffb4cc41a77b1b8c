//! `certify`: the document that says that a migration is whole, or why it cannot say so.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use common::endpoint::SecretString;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown, Tone, tame};
use super::plan;
use crate::certify::{Certificate, Tiling, html};
use crate::read::certificate::{self, StationRead};
use crate::read::data_set;

/// Write the document that a data set's migration is whole: JSON, and HTML for people
///
/// It says that the chunks are those of the sealed plan and tile the source, that all are published
/// and validated on the way, and that the target was found equal to the source at its extract (run
/// 'reconcile' first). Where something does not hold it is written all the same, says NOT CERTIFIED
/// with the reasons, and the command ends with 5.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data set that a job makes
    #[arg(value_name = "DATASET")]
    pub name: String,
    /// Where to write DATASET.certificate.json and .html
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Do not look at the source of today; that the chunks tile it rests on the plan's seal
    #[arg(long)]
    pub no_source: bool,
    /// Accept equal rows where no row sum of the source is kept
    #[arg(long)]
    pub accept_rows: bool,
}

#[derive(Debug, Serialize)]
struct Certified {
    dataset: String,
    certified: bool,
    reasons: Vec<String>,
    notes: Vec<String>,
    exceptions: usize,
    json: PathBuf,
    html: PathBuf,
    sha256: String,
}

/// Runs `certify`.
///
/// # Errors
/// As the server answers; where the data set is a source or the files cannot be written.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let url = SecretString::from(session.url()?.to_owned());
    let (flow, name) = match args.name.split_once(':') {
        Some((flow, name)) => (Some(flow.to_owned()), name.to_owned()),
        None => (session.global.flow.clone(), args.name.clone()),
    };
    let found = data_set::find(&db, flow.as_deref(), &name).await?;
    let collected = certificate::collect(&db, &found).await?;
    if collected
        .stations
        .last()
        .is_some_and(|last| !last.station.made)
    {
        return Err(Failure::new(
            Exit::Refused,
            format!("{name} is a source: nothing was migrated into it"),
        )
        .hint("name the data set that was made from it"));
    }
    let mut tiling = Vec::new();
    for read in collected.stations.iter().filter(|read| !read.station.made) {
        tiling.push(tiles(read, args.no_source, &url).await);
    }
    let document = Certificate::of(&found.flow, &name, collected, tiling, args.accept_rows);
    let written = write(&document, &args.out).map_err(|error| {
        Failure::new(
            Exit::Error,
            format!("write to {}: {error}", args.out.display()),
        )
    })?;
    let certified = document.certified;
    session.out.show(&written)?;
    Ok(if certified { Exit::Ok } else { Exit::Degraded })
}

/// Counts, for every row of a source as it is now, the chunks that hold it.
async fn tiles(read: &StationRead, skip: bool, url: &SecretString) -> Tiling {
    let station = &read.station;
    let mut tiling = Tiling {
        dataset: station.name.clone(),
        report: None,
        not_checked: None,
    };
    if skip {
        tiling.not_checked = Some("left out by --no-source".to_owned());
        return tiling;
    }
    if station.spec.at.table.is_none() {
        tiling.not_checked = Some("it is not a table".to_owned());
        return tiling;
    }
    let qualified = format!("{}:{}", station.flow, station.name);
    match plan::check(&qualified, url.clone()).await {
        Ok(report) => tiling.report = Some(report.tiling),
        Err(error) => tiling.not_checked = Some(format!("{error:#}")),
    }
    tiling
}

fn write(document: &Certificate, folder: &Path) -> std::io::Result<Certified> {
    let name: String = document
        .dataset
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect();
    let json_name = format!("{name}.certificate.json");
    let mut json = serde_json::to_vec_pretty(document)?;
    json.push(b'\n');
    let sha256 = hex::encode(Sha256::digest(&json));
    let page = html::page(document, &json_name, &sha256);
    std::fs::create_dir_all(folder)?;
    let (json_path, html_path) = (
        folder.join(&json_name),
        folder.join(format!("{name}.certificate.html")),
    );
    replace(&json_path, &json)?;
    replace(&html_path, page.as_bytes())?;
    Ok(Certified {
        dataset: document.dataset.clone(),
        certified: document.certified,
        reasons: document.reasons.clone(),
        notes: document.notes.clone(),
        exceptions: document.exceptions.len(),
        json: json_path,
        html: html_path,
        sha256,
    })
}

/// Writes a file whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("part");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

impl Shown for Certified {
    fn human(&self, page: &mut Page) {
        let verdict = if self.certified {
            page.paint(Tone::Good, "CERTIFIED")
        } else {
            page.paint(Tone::Bad, "NOT CERTIFIED")
        };
        page.line(format!("{}: {verdict}", self.dataset));
        for reason in &self.reasons {
            page.line(format!("  because   {}", tame(reason)));
        }
        for note in &self.notes {
            page.line(format!("  note      {}", tame(note)));
        }
        if self.exceptions > 0 {
            page.line(format!(
                "  chunks    {} not as they should be, listed in the document",
                self.exceptions
            ));
        }
        page.line(format!("  for people    {}", self.html.display()));
        page.line(format!("  for programs  {}", self.json.display()));
        page.line(format!("  sha256        {}", self.sha256));
    }
}
