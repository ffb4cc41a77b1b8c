//! `example`: a flow to start from, embedded in the program; printed or written.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::Serialize;

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown};

/// Arguments of `example`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which one; without it they are listed
    pub name: Option<String>,
    /// Write its files below this directory (made where missing) instead of printing the flow
    pub dir: Option<PathBuf>,
}

/// An example and its files.
struct Example {
    name: &'static str,
    about: &'static str,
    files: &'static [File],
}

struct File {
    path: &'static str,
    text: &'static str,
    script: bool,
}

const EXAMPLES: &[Example] = &[Example {
    name: "warehouse",
    about: "a table from one PostgreSQL database to another by way of files, with psql",
    files: &[
        File {
            path: "flow.yaml",
            text: include_str!("example/warehouse/flow.yaml"),
            script: false,
        },
        File {
            path: "scripts/extract.sh",
            text: include_str!("example/warehouse/scripts/extract.sh"),
            script: true,
        },
        File {
            path: "scripts/load.sh",
            text: include_str!("example/warehouse/scripts/load.sh"),
            script: true,
        },
        File {
            path: "setup.sql",
            text: include_str!("example/warehouse/setup.sql"),
            script: false,
        },
        File {
            path: "README.md",
            text: include_str!("example/warehouse/README.md"),
            script: false,
        },
    ],
}];

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Listed(Vec<About>);

#[derive(Debug, Serialize)]
struct About {
    name: &'static str,
    about: &'static str,
}

impl Shown for Listed {
    fn human(&self, page: &mut Page) {
        for one in &self.0 {
            page.line(format!("{}  {}", one.name, one.about));
        }
    }
}

/// Runs `example`.
///
/// # Errors
/// For a name that there is not, or a file that is there already: nothing is overwritten.
pub fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let Some(name) = &args.name else {
        let list = EXAMPLES
            .iter()
            .map(|one| About {
                name: one.name,
                about: one.about,
            })
            .collect();
        session.out.show(&Listed(list))?;
        session.out.say("hint: coordinator example NAME DIR");
        return Ok(Exit::Ok);
    };
    let Some(example) = EXAMPLES.iter().find(|one| one.name == name) else {
        let names: Vec<&str> = EXAMPLES.iter().map(|one| one.name).collect();
        return Err(
            Failure::new(Exit::NotFound, format!("no example named {name:?}"))
                .hint(format!("examples: {}", names.join(", "))),
        );
    };
    let Some(dir) = &args.dir else {
        session.out.raw(example.files[0].text)?;
        session.out.say(format!(
            "hint: coordinator example {name} DIR writes it with its scripts"
        ));
        return Ok(Exit::Ok);
    };
    if let Some(there) = example
        .files
        .iter()
        .map(|file| dir.join(file.path))
        .find(|path| path.exists())
    {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} is there already", there.display()),
        )
        .hint("name a new directory: nothing is overwritten"));
    }
    for file in example.files {
        let path = dir.join(file.path);
        write(&path, file).map_err(|error| {
            Failure::new(Exit::Error, format!("write {}: {error}", path.display()))
        })?;
        session.out.say(format!("wrote {}", path.display()));
    }
    session
        .out
        .say(format!("next: read {}", dir.join("README.md").display()));
    Ok(Exit::Ok)
}

fn write(path: &std::path::Path, file: &File) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if file.script { 0o755 } else { 0o644 };
    let mut open = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    open.write_all(file.text.as_bytes())
}
