//! Windows and mappings: that dates, columns and expressions can be followed.

use regex::Regex;

use super::dataset::Role;
use crate::calendar::{Calendar, CalendarError, Every};
use crate::flow::link::unknown_group;
use crate::flow::model::{ConnectionKind, First, Mapping, Partition, Rest, Rewrite};
use crate::flow::raw::RawInput;
use crate::flow::raw_window::{RawByWindows, RawChunks, RawRewrite};
use crate::flow::read::{At, Place, Problems};
use crate::flow::scalar::{FirstWindow, InputChunks, RestRows};
use crate::flow::tree::shorten;

/// Builds a partition by windows; `kind` is that of the data set's connection, where it is known.
pub(super) fn build(
    by: &RawByWindows,
    kind: Option<&ConnectionKind>,
    role: Role<'_>,
    place: &Place,
    problems: &mut Problems<'_>,
) -> Option<Partition> {
    let column = column(by, kind, role, problems);
    let rest = rest(by, problems);
    let (every, from, to) = (by.every.as_ref()?, by.from.as_ref()?, by.to.as_ref()?);
    let calendar = Calendar {
        every: every.value.0,
        from: from.value.0,
        to: to.value.0,
        zone: by.zone.as_ref()?.value.0,
        week_starts: by
            .week_starts
            .as_ref()
            .map_or(chrono::Weekday::Mon, |day| day.value.0),
    };
    if let Some(day) = by.week_starts.as_ref()
        && calendar.every != Every::Week
    {
        problems
            .error(
                &day.place.at_key(),
                "only windows of a week begin on a day of the week",
            )
            .hint("remove week_starts, or write every: week");
    }
    if let Err(error) = calendar.check() {
        let wrong = match &error {
            CalendarError::Unknown { date } | CalendarError::Crooked { date, .. }
                if *date == from.value.0 =>
            {
                &from.place
            }
            _ => &to.place,
        };
        problems
            .error(wrong, error.to_string())
            .expected("dates on which windows begin, the first inside and the first outside");
    } else if calendar.windows().is_empty() {
        problems.error(
            place,
            format!(
                "{} left out every date from {} to {}",
                calendar.zone, calendar.from, calendar.to
            ),
        );
    }
    Some(Partition::Windows {
        calendar,
        column,
        rest,
    })
}

fn column(
    by: &RawByWindows,
    kind: Option<&ConnectionKind>,
    role: Role<'_>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let column = by.column.as_ref()?;
    let is_table = matches!(kind, None | Some(ConnectionKind::Postgres { .. }));
    if !matches!(role, Role::Source | Role::Unknown) {
        problems
            .error(
                &column.place.at_key(),
                "a job makes this data set, so there are no rows to look at yet",
            )
            .hint("remove column: scripts get ODF_WINDOW_START and ODF_WINDOW_END");
    } else if !is_table {
        problems
            .error(
                &column.place.at_key(),
                "only a table of a postgres connection has columns",
            )
            .hint("remove column: scripts get ODF_WINDOW_START and ODF_WINDOW_END");
    }
    Some(column.value.0.clone())
}

fn rest(by: &RawByWindows, problems: &mut Problems<'_>) -> Rest {
    let Some(rest) = by.rest.as_ref() else {
        return Rest::Error;
    };
    if !by.column.is_written() {
        problems
            .error(
                &rest.place.at_key(),
                "rest speaks of rows, and no column says when they are",
            )
            .hint("name the column, or remove rest");
    }
    match rest.value {
        RestRows::Error => Rest::Error,
        RestRows::Chunk => Rest::Chunk,
        RestRows::Ignore => Rest::Ignore,
    }
}

/// Which chunks an input gives; `None` where that was reported.
pub(super) fn mapping(input: &RawInput, problems: &mut Problems<'_>) -> Option<Mapping> {
    let chunks = input.chunks.as_ref();
    let is_previous = matches!(
        chunks,
        Some(At {
            value: RawChunks::Word(InputChunks::Previous),
            ..
        })
    );
    if let Some(first) = input.first.as_ref().filter(|_| !is_previous) {
        problems
            .error(
                &first.place.at_key(),
                "only chunks: previous has a first window without one before it",
            )
            .hint("remove first, or write chunks: previous");
    }
    let Some(chunks) = chunks else {
        // What could not be read was reported.
        return (!input.chunks.is_written()).then_some(Mapping::SameKey);
    };
    match &chunks.value {
        RawChunks::Word(InputChunks::Same) => Some(Mapping::SameKey),
        RawChunks::Word(InputChunks::All) => Some(Mapping::All),
        RawChunks::Word(InputChunks::Windows) => Some(Mapping::Windows),
        RawChunks::Word(InputChunks::Previous) => previous(input, chunks, problems),
        RawChunks::Rewrite(rewrite) => expression(rewrite, &chunks.place, problems),
    }
}

fn previous(
    input: &RawInput,
    chunks: &At<RawChunks>,
    problems: &mut Problems<'_>,
) -> Option<Mapping> {
    let Some(first) = input.first.as_ref() else {
        if !input.first.is_written() {
            problems
                .error(
                    &chunks.place,
                    "the first window has none before it, and nothing says what becomes of it",
                )
                .expected("first: ready to make it without, wait, or skip to leave it out")
                .hint("for example { dataset: days, chunks: previous, first: ready }");
        }
        return None;
    };
    let first = match first.value {
        FirstWindow::Ready => First::Ready,
        FirstWindow::Wait => First::Wait,
        FirstWindow::Skip => First::Skip,
    };
    Some(Mapping::Previous { first })
}

fn expression(raw: &RawRewrite, place: &Place, problems: &mut Problems<'_>) -> Option<Mapping> {
    let template = match (raw.to.as_ref(), raw.from.as_ref()) {
        (Some(to), None) => to,
        (None, Some(from)) => from,
        (Some(_), Some(from)) => {
            problems
                .error(&from.place.at_key(), "an expression goes one way: it has to or from, not both")
                .hint("to makes the output's key from an input's, from the input's key from an output's");
            return None;
        }
        (None, None) => {
            if !raw.to.is_written() && !raw.from.is_written() {
                problems
                    .error(&place.at_key(), "an expression does not say which key it makes")
                    .expected("to: the output's key from an input's, or from: the input's key from an output's")
                    .hint("for example { match: \"^(\\\\d{4}-\\\\d{2})\", to: \"$1\" }");
            }
            return None;
        }
    };
    let pattern = raw.pattern.as_ref()?;
    let regex = match Regex::new(&pattern.value.0) {
        Ok(regex) => regex,
        Err(error) => {
            let said = error.to_string();
            let last = said
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            problems
                .error(
                    &pattern.place,
                    format!("the expression cannot be read: {last}"),
                )
                .expected("a regular expression such as \"^(.{7})\"");
            return None;
        }
    };
    if let Some(group) = unknown_group(&regex, &template.value.0) {
        problems
            .error(
                &template.place,
                format!("the expression has no group {:?}", shorten(&group)),
            )
            .expected("$1, $2, ... for its groups, ${1} before a letter, $$ for a dollar sign");
        return None;
    }
    let rewrite = Rewrite {
        pattern: pattern.value.0.clone(),
        template: template.value.0.clone(),
    };
    Some(if raw.to.as_ref().is_some() {
        Mapping::To(rewrite)
    } else {
        Mapping::From(rewrite)
    })
}
