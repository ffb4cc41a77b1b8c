//! `lineage`: what a chunk was made from and what was made from it, as a tree with generations.

use serde::Serialize;

use super::Session;
use super::chunks::tone;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown, Tone, tame};
use super::selector::Name;
use super::words;
use crate::read::chunk;
use crate::read::lineage::{self, Node, Reach, Whole};
use crate::read::obstacle::plural;

/// Arguments of `lineage`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The chunk
    #[arg(value_name = "DATASET/KEY")]
    pub chunk: Name,
    /// Only what it was made from
    #[arg(long, conflicts_with = "down")]
    pub up: bool,
    /// Only what was made from it
    #[arg(long)]
    pub down: bool,
    /// How many steps
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub depth: u32,
    /// How many chunks of each step, for each of the one before
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub limit: i64,
}

/// The trees that were asked for.
#[derive(Debug, Serialize)]
struct Lineage {
    /// The chunk, with what it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_from: Option<Node>,
    /// The chunk, with what was made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_by: Option<Node>,
}

impl Shown for Lineage {
    fn human(&self, page: &mut Page) {
        let Some(root) = self.made_from.as_ref().or(self.read_by.as_ref()) else {
            return;
        };
        let will = [&self.made_from, &self.read_by]
            .into_iter()
            .flatten()
            .any(|node| node.will_be_stale);
        line(page, root, 0, root.generation, &marks(root, will));
        if let Some(tree) = &self.made_from {
            page.line("made from");
            branches(page, tree, 1, true);
        }
        if let Some(tree) = &self.read_by {
            page.line("read by");
            branches(page, tree, 1, false);
        }
        if root.stale {
            let hint = format!(
                "repair: coordinator resubmit {} --downstream",
                tame(&root.name)
            );
            page.line(page.paint(Tone::Dim, &hint));
        }
    }
}

fn branches(page: &mut Page, node: &Node, indent: usize, up: bool) {
    let pad = "  ".repeat(indent);
    for set in &node.whole {
        page.line(format!("{pad}{}", whole(page, set, up)));
    }
    for chunk in &node.chunks {
        let generation = match (up, chunk.read) {
            (true, Some(read)) => read,
            _ => chunk.generation,
        };
        line(page, chunk, indent, generation, &read(chunk, node, up));
        branches(page, chunk, indent + 1, up);
    }
    if node.more > 0 {
        let more = format!("{pad}and {} more: --limit", words::grouped(node.more));
        page.line(page.paint(Tone::Dim, &more));
    } else if indent == 1 && node.chunks.is_empty() && node.whole.is_empty() {
        page.line(page.paint(Tone::Dim, &format!("{pad}nothing")));
    }
}

/// What is said of a chunk's staleness.
fn marks(node: &Node, will: bool) -> String {
    if node.stale {
        ", STALE".to_owned()
    } else if will {
        ", will be stale".to_owned()
    } else {
        String::new()
    }
}

/// Which generation was read, and what there is now.
fn read(node: &Node, parent: &Node, up: bool) -> String {
    let newer = match (up, node.read) {
        (true, Some(read)) if read != node.generation => {
            format!(" was read, now {}", node.generation)
        }
        (false, Some(read)) if read != parent.generation => {
            format!(", made from generation {read} of {}", tame(&parent.name))
        }
        _ => String::new(),
    };
    let before = if node.shown_before { " (as above)" } else { "" };
    format!("{newer}{}{before}", marks(node, node.will_be_stale))
}

/// One chunk at the generation that is meant.
fn line(page: &mut Page, node: &Node, indent: usize, generation: i32, marks: &str) {
    let generation = match generation {
        0 => "not made yet".to_owned(),
        n => format!("generation {n}"),
    };
    let status = page.paint(tone(&node.status), &node.status);
    let marks = if marks.is_empty() {
        String::new()
    } else {
        page.paint(Tone::Warn, marks)
    };
    let mut made = String::new();
    if let (Some(at), Some(attempt), Some(worker)) = (node.published_at, node.attempt, &node.worker)
    {
        made = format!(
            ", attempt {attempt} on {} at {}",
            tame(worker),
            words::stamp(page.zoned(at))
        );
        if let Some(location) = node.location.as_ref().filter(|_| page.wide) {
            made.push_str(&format!(", {}", tame(location)));
        }
    }
    page.line(format!(
        "{}{} {generation}{marks} ({status}){made}",
        "  ".repeat(indent),
        tame(&node.name)
    ));
}

fn whole(page: &Page, set: &Whole, up: bool) -> String {
    let chunks = set
        .chunks
        .map_or("chunks, not cut yet,".to_owned(), |n| plural(n, "chunk"));
    let stale = match set.stale {
        0 => String::new(),
        n => page.paint(Tone::Warn, &format!(", {n} of them stale")),
    };
    if !up {
        return format!(
            "{chunks} of {}: each takes the whole data set (job {}){stale}",
            tame(&set.dataset),
            tame(&set.job)
        );
    }
    let mark = match (set.read, set.now) {
        (Some(read), Some(now)) if read != now => page.paint(
            Tone::Warn,
            &format!("publication {read} was read, now {now}"),
        ),
        (Some(read), _) => format!("publication {read}"),
        (None, now) => format!("publication {} now", now.unwrap_or_default()),
    };
    format!("all {chunks} of {} ({mark}){stale}", tame(&set.dataset))
}

/// Runs `lineage`.
///
/// # Errors
/// As the server answers, or where the name is not that of a chunk.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let Some(key) = &args.chunk.key else {
        let set = &args.chunk.dataset;
        return Err(
            Failure::usage(format!("expected a chunk, DATASET/KEY, found {set:?}"))
                .hint(format!("coordinator chunks {set}; coordinator stale {set}")),
        );
    };
    let db = session.db().await?;
    let flow = session
        .global
        .flow
        .as_deref()
        .or(args.chunk.flow.as_deref());
    let found = chunk::find(&db, flow, &args.chunk.dataset, key).await?;
    let root = lineage::root(&db, &found).await?;
    let reach = Reach {
        depth: args.depth,
        width: args.limit,
    };
    let mut lineage = Lineage {
        made_from: None,
        read_by: None,
    };
    if !args.down {
        lineage.made_from = Some(lineage::up(&db, &root, reach).await?);
    }
    if !args.up {
        lineage.read_by = Some(lineage::down(&db, &root, reach).await?);
    }
    session.out.show(&lineage)?;
    Ok(Exit::Ok)
}
