//! `postmortem`: the story of an outage as Markdown, from what was kept of it.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeDelta, Utc};

use super::Session;
use super::failure::{Exit, Failure};
use super::output::{Page, Shown, tame};
use super::words;
use crate::read::events::{self, EventRow};
use crate::read::obstacle::plural;
use crate::read::postmortem::{self, MOST, Postmortem};
use crate::read::state::span;

/// Actions and notices that are listed one by one.
const LISTED: usize = 50;

/// Arguments of `postmortem`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are 2026-11-20T18:00:00Z, 2026-11-20, \"2026-11-20 18:00\" (this host's zone), \
    or so long ago: 3d, 90m.\n\nExample: coordinator postmortem --from '2026-11-20 17:00' --to '2026-11-23 09:00' > outage.md"
)]
pub struct Args {
    /// Where the story begins
    #[arg(long, value_name = "TIME")]
    pub from: When,
    /// Where it ends; now unless given
    #[arg(long, value_name = "TIME")]
    pub to: Option<When>,
}

/// A point in time as people write one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// That very moment.
    At(DateTime<Utc>),
    /// So long before now.
    Ago(TimeDelta),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(at.with_timezone(&Utc)));
        }
        let naive = ["%F %T", "%F %H:%M", "%FT%T", "%FT%H:%M"]
            .into_iter()
            .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
            .or_else(|| {
                let day = NaiveDate::parse_from_str(text, "%F").ok()?;
                day.and_hms_opt(0, 0, 0)
            });
        if let Some(naive) = naive {
            // Of a local time that comes twice the earlier: a story may begin too early.
            return naive
                .and_local_timezone(Local)
                .earliest()
                .map(|at| Self::At(at.with_timezone(&Utc)))
                .ok_or_else(|| format!("{text:?} does not exist in this host's time zone"));
        }
        let ago = super::wait::duration(text)
            .ok()
            .and_then(|ago| TimeDelta::from_std(ago).ok());
        ago.map(Self::Ago).ok_or_else(|| {
            "expected 2026-11-20T18:00:00Z, 2026-11-20, \"2026-11-20 18:00\", or so long ago such as 3d".to_owned()
        })
    }
}

impl When {
    fn from(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now - ago,
        }
    }
}

/// Runs `postmortem`.
///
/// # Errors
/// As the server answers, or where the window is empty.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let now = events::now(&db).await?;
    let from = args.from.from(now);
    let to = args.to.map_or(now, |to| to.from(now));
    if from >= to {
        return Err(Failure::usage(format!(
            "the window ends at {to} and begins at {from}; expected a beginning before the end"
        )));
    }
    let story = postmortem::postmortem(&db, session.global.flow.as_deref(), from, to).await?;
    session.out.show(&story)?;
    Ok(Exit::Ok)
}

/// Text of data inside a Markdown table or line.
fn plain(text: &str) -> String {
    tame(text).replace('|', "\\|").replace('`', "'")
}

impl Shown for Postmortem {
    fn human(&self, page: &mut Page) {
        let from = words::stamp(page.zoned(self.from));
        let to = words::stamp(page.zoned(self.to));
        page.line(format!("# What happened from {from} to {to}"));
        page.line("");
        summary(self, page);
        causes(self, page);
        affected(self, page);
        questions(self, page);
        course(self, page);
        listed(
            "What people did",
            "Nobody did anything.",
            &self.actions,
            page,
        );
        listed(
            "What the system noticed and did",
            "Nothing beyond the failures themselves.",
            &self.notices,
            page,
        );
    }
}

fn summary(story: &Postmortem, page: &mut Page) {
    let attempts: i64 = story.causes.iter().map(|cause| cause.attempts).sum();
    let charged: i64 = story.causes.iter().map(|cause| cause.charged).sum();
    let chunks: usize = story.affected.values().map(|set| set.chunks).sum();
    let mut now: BTreeMap<&str, usize> = BTreeMap::new();
    for set in story.affected.values() {
        for (status, count) in &set.now {
            *now.entry(status).or_default() += count;
        }
    }
    if attempts == 0 {
        page.line("Every attempt that ended in this time was published.");
        page.line("");
        return;
    }
    page.line(format!(
        "In {} {} ended without being published, of {}, for {}; {charged} of them counted against a retry limit.",
        span(story.to - story.from),
        plural(attempts, "attempt"),
        plural(chunks as i64, "chunk"),
        plural(story.causes.len() as i64, "cause"),
    ));
    let well = now.get("validated").copied().unwrap_or_default();
    let rest: Vec<String> = now
        .iter()
        .filter(|(status, _)| **status != "validated")
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    let rest = if rest.is_empty() {
        "none is left".to_owned()
    } else {
        format!("the others are {}", rest.join(", "))
    };
    page.line(format!(
        "When this was written ({}), {well} of the {chunks} were published and validated; {rest}.",
        words::stamp(page.zoned(story.written_at))
    ));
    if story.cut {
        page.line(format!(
            "There is more than the {} attempts and events that were looked at: choose a shorter time.",
            words::grouped(MOST)
        ));
    }
    page.line("");
}

fn causes(story: &Postmortem, page: &mut Page) {
    if story.causes.is_empty() {
        return;
    }
    page.line("## Causes");
    page.line("");
    page.line("| attempts | chunks | class | cause | hosts | first | last | for example |");
    page.line("|---:|---:|---|---|---|---|---|---|");
    for cause in &story.causes {
        let hosts: Vec<&str> = cause.hosts.iter().take(5).map(String::as_str).collect();
        let more = cause.hosts.len().saturating_sub(5);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        page.line(format!(
            "| {} | {} | {} | {} | {}{more} | {} | {} | {} |",
            cause.attempts,
            cause.chunks,
            cause.class,
            plain(&cause.pattern),
            plain(&hosts.join(", ")),
            words::stamp(page.zoned(cause.first_at)),
            words::stamp(page.zoned(cause.last_at)),
            plain(&cause.example),
        ));
    }
    page.line("");
}

fn affected(story: &Postmortem, page: &mut Page) {
    if story.affected.is_empty() {
        return;
    }
    page.line("## Affected chunks");
    page.line("");
    page.line("| data set | chunks | now |");
    page.line("|---|---:|---|");
    for (name, set) in &story.affected {
        let now: Vec<String> = set
            .now
            .iter()
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        page.line(format!(
            "| {} | {} | {} |",
            plain(name),
            set.chunks,
            now.join(", ")
        ));
    }
    page.line("");
}

fn questions(story: &Postmortem, page: &mut Page) {
    if story.affected.is_empty() {
        return;
    }
    page.line("## The five questions");
    page.line("");
    page.line("Of the attempts in this time, how many each question stopped; of the affected chunks that are");
    page.line("published now, what their inputs answered.");
    page.line("");
    page.line("| question | stopped | yes | waived | not kept |");
    page.line("|---|---:|---:|---:|---:|");
    for (question, asked) in &story.questions {
        page.line(format!(
            "| {} | {} | {} | {} | {} |",
            question.words(),
            asked.refused,
            asked.yes,
            asked.waived,
            asked.unknown
        ));
    }
    page.line("");
}

fn course(story: &Postmortem, page: &mut Page) {
    if story.course.is_empty() {
        return;
    }
    page.line("## How it went");
    page.line("");
    page.line("| from | published | failed | lost | handed back |");
    page.line("|---|---:|---:|---:|---:|");
    for step in &story.course {
        page.line(format!(
            "| {} | {} | {} | {} | {} |",
            words::stamp(page.zoned(step.at)),
            step.validated,
            step.failed,
            step.lost,
            step.released
        ));
    }
    page.line("");
}

fn listed(title: &str, none: &str, events: &[EventRow], page: &mut Page) {
    page.line(format!("## {title}"));
    page.line("");
    if events.is_empty() {
        page.line(none);
    }
    for event in events.iter().take(LISTED) {
        let subject = event
            .subject
            .as_deref()
            .map(|subject| format!(" {}", plain(subject)))
            .unwrap_or_default();
        let message = match event.message.as_str() {
            "" => String::new(),
            message => format!(": {}", plain(message)),
        };
        page.line(format!(
            "- {} {} ({}){subject}{message}",
            words::stamp(page.zoned(event.at)),
            event.kind,
            plain(&event.actor)
        ));
    }
    let more = events.len().saturating_sub(LISTED);
    if more > 0 {
        page.line(format!("- and {more} more: coordinator events"));
    }
    page.line("");
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone, Utc};

    use super::When;

    #[test]
    fn times_are_read_as_people_write_them() {
        let at = Utc.with_ymd_and_hms(2026, 11, 20, 18, 0, 0).unwrap();
        assert_eq!("2026-11-20T18:00:00Z".parse(), Ok(When::At(at)));
        assert_eq!("2026-11-20T19:00:00+01:00".parse(), Ok(When::At(at)));
        assert_eq!("3d".parse(), Ok(When::Ago(TimeDelta::days(3))));
        for text in ["2026-11-20", "2026-11-20 18:00", "2026-11-20T18:00:30"] {
            assert!(matches!(text.parse(), Ok(When::At(_))), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "18:00"] {
            let error = text.parse::<When>().unwrap_err();
            assert!(error.contains("expected"), "{error}");
        }
    }
}
