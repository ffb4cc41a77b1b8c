//! Validation: that format, rules and rejects fit each other and the data set's place.
//!
//! A rule that nothing could answer is refused here, not found out by a worker at night.

use std::collections::BTreeMap;

use super::dataset::{Role, inputs_of, kind_of, kind_word};
use super::rule_parts::{accepted, by_column, csv_style, expected, names, ratio, schema};
use super::{Context, partition, text};
use crate::domain::Severity;
use crate::flow::model::{ConnectionKind, Flow};
use crate::flow::raw::RawDataSet;
use crate::flow::raw_rules::{RawCap, RawChecks, RawRejects, RawRowCount, RawRule, RawSql};
use crate::flow::read::{At, Place, Problems, list_of};
use crate::flow::rules::{
    Check, Checks, Expected, FileFormat, Freshness, Packing, Range, RejectCap, Rejects, RowCount,
    Rule, Shape, SqlRule,
};
use crate::flow::scalar::{FormatWord, SeverityWord, Text, Written};
use crate::flow::tree::shorten;

/// What a data set's rules are held against.
struct Of<'c> {
    context: &'c Context<'c>,
    name: &'c str,
    kind: Option<&'c ConnectionKind>,
    path: Option<&'c At<Text>>,
    raw: RawChecks<'c>,
}

/// Builds what is checked about a data set.
pub(super) fn build(
    context: &Context<'_>,
    name: &str,
    dataset: &RawDataSet,
    role: Role<'_>,
    problems: &mut Problems<'_>,
) -> Checks {
    let at = dataset.at.as_ref();
    let of = Of {
        context,
        name,
        kind: at.and_then(|at| kind_of(context, &at.value)),
        path: at.and_then(|at| at.value.path.as_ref()),
        raw: RawChecks {
            format: &dataset.format,
            csv: &dataset.csv,
            validate: &dataset.validate,
            rejects: &dataset.rejects,
        },
    };
    if let (Role::Source, Some(rules)) = (role, of.raw.validate.as_ref()) {
        problems
            .error(
                &rules.place.at_key(),
                "no job makes this data set, so there is no moment at which it is checked",
            )
            .hint("put the rules on a data set that a job makes");
    }
    let format = of.format(problems);
    let validate: Vec<Rule> = of
        .raw
        .validate
        .as_ref()
        .into_iter()
        .flat_map(|rules| &rules.value)
        .filter_map(|rule| of.rule(rule, format.as_ref(), problems))
        .collect();
    let rejects = of
        .raw
        .rejects
        .as_ref()
        .and_then(|rejects| of.rejects(rejects, format.as_ref(), &validate, problems));
    Checks {
        // What nobody makes is never staged, so nothing of it is read by us.
        format: format.filter(|_| !matches!(role, Role::Source) || of.raw.format.is_written()),
        validate,
        rejects,
    }
}

impl Of<'_> {
    fn on_files(&self) -> bool {
        matches!(self.kind, Some(ConnectionKind::Files { .. }) | None)
    }

    /// The declared format, or that of the path's end.
    fn format(&self, problems: &mut Problems<'_>) -> Option<FileFormat> {
        let by_path = self
            .path
            .filter(|_| self.on_files())
            .and_then(|path| FileFormat::of_path(&path.value.0));
        let mut format = match self.raw.format.as_ref() {
            None => by_path,
            Some(written) if !self.on_files() => {
                problems
                    .error(
                        &written.place.at_key(),
                        "a format says how files are read, and this data set has none",
                    )
                    .hint("remove it, or put the data set on a files connection");
                None
            }
            Some(written) => self.declared_format(written, by_path, problems),
        };
        let Some(csv) = self.raw.csv.as_ref() else {
            return format;
        };
        match format.as_mut() {
            Some(format) if format.shape == Shape::Csv => {
                csv_style(csv, &mut format.csv, problems);
            }
            _ if self.raw.format.is_written() && self.raw.format.as_ref().is_none() => {}
            _ => {
                problems
                    .error(&csv.place.at_key(), "this data set is not of format csv")
                    .hint("add format: csv, or remove csv");
            }
        }
        format
    }

    fn declared_format(
        &self,
        written: &At<FormatWord>,
        by_path: Option<FileFormat>,
        problems: &mut Problems<'_>,
    ) -> Option<FileFormat> {
        let shape = match written.value {
            FormatWord::None => return None,
            FormatWord::Csv => Shape::Csv,
            FormatWord::Jsonl => Shape::Jsonl,
            FormatWord::Parquet => Shape::Parquet,
        };
        let path = self.path.map_or("", |path| path.value.0.as_str());
        let packing = Packing::of_path(path).map(|(_, packing)| packing);
        let packing = packing.filter(|p| shape != Shape::Parquet || *p == Packing::Plain);
        let Some(packing) = packing else {
            problems
                .error(
                    &written.place,
                    format!("the packing of {:?} cannot be read", shorten(path)),
                )
                .expected("csv and jsonl as they are or with .gz or .zst, parquet as it is")
                .hint("write format: none and a validate command");
            return None;
        };
        let csv = by_path
            .filter(|format| format.shape == shape)
            .map(|format| format.csv)
            .unwrap_or_default();
        Some(FileFormat {
            shape,
            packing,
            csv,
        })
    }

    fn rule(
        &self,
        rule: &At<RawRule>,
        format: Option<&FileFormat>,
        problems: &mut Problems<'_>,
    ) -> Option<Rule> {
        let severity = match rule.value.severity.as_ref().map(|word| word.value) {
            Some(SeverityWord::Warn) => Severity::Warn,
            Some(SeverityWord::Fail) | None => Severity::Fail,
        };
        let written = written_keys(&rule.value);
        let [one] = written.as_slice() else {
            if !written.is_empty() || !rule.value.severity.is_written() {
                let list = list_of(&written);
                problems
                    .error(
                        &rule.place,
                        format!("a rule says one thing, this one {list}"),
                    )
                    .expected("one key of a rule, and severity where it is wanted")
                    .hint("write each as an item of its own: [{ not_null: [a] }, { unique: [a] }]");
            } else {
                problems
                    .error(&rule.place, "a rule with a severity alone says nothing")
                    .expected("one key of a rule, and severity where it is wanted");
            }
            return None;
        };
        let check = self.check(&rule.value, problems)?;
        self.answerable(&check, one, &rule.place, format, problems);
        Some(Rule { check, severity })
    }

    /// Refuses a rule that nothing could answer here.
    fn answerable(
        &self,
        check: &Check,
        word: &str,
        place: &Place,
        format: Option<&FileFormat>,
        problems: &mut Problems<'_>,
    ) {
        match self.kind {
            _ if check.is_custom() => {}
            Some(kind @ ConnectionKind::Other { .. }) => {
                problems
                    .error(
                        place,
                        format!(
                            "nothing of ours can look at a place of kind {}",
                            kind_word(kind)
                        ),
                    )
                    .expected("a sql or command rule");
            }
            Some(ConnectionKind::Postgres { .. }) => {
                if matches!(
                    check,
                    Check::Checksum(_) | Check::RowSum(_) | Check::Schema(_)
                ) {
                    problems
                        .error(place, format!("{word} is a rule of files, this is a table"))
                        .expected("row_count, not_null, unique, accepted, range, sum, min, max, freshness, sql or command");
                }
            }
            // A format that cannot be read was reported.
            _ if self.raw.format.is_written() && self.raw.format.as_ref().is_none() => {}
            _ if format.is_none() => {
                problems
                    .error(
                        place,
                        format!("{word} needs files that we can read, and the format is not known"),
                    )
                    .expected("format: csv, jsonl or parquet, or a path that ends so")
                    .hint("or check it by a program: { command: [check.sh] }");
            }
            _ => {}
        }
    }

    fn check(&self, raw: &RawRule, problems: &mut Problems<'_>) -> Option<Check> {
        if let Some(count) = raw.row_count.as_ref() {
            return self.row_count(count, problems).map(Check::RowCount);
        }
        if let Some(columns) = raw.not_null.as_ref() {
            return Some(Check::NotNull(names(&columns.value.0, problems)));
        }
        if let Some(columns) = raw.unique.as_ref() {
            return Some(Check::Unique(names(&columns.value.0, problems)));
        }
        if let Some(map) = raw.accepted.as_ref() {
            return accepted(map, problems).map(Check::Accepted);
        }
        if let Some(map) = raw.range.as_ref() {
            return by_column(map, problems, |entry, problems| {
                let range = entry.value.as_ref()?;
                let text = |value: Option<&At<Written>>| value.map(|v| v.value.0.clone());
                let range = Range {
                    min: text(range.min.as_ref()),
                    max: text(range.max.as_ref()),
                };
                if range == Range::default() {
                    problems
                        .error(&entry.place.at_key(), "a range without bounds")
                        .expected("min, max or both");
                }
                Some(range)
            })
            .map(Check::Range);
        }
        for (map, make) in [
            (
                &raw.sum,
                Check::Sum as fn(BTreeMap<String, Expected>) -> Check,
            ),
            (&raw.min, Check::Min),
            (&raw.max, Check::Max),
            (&raw.checksum, Check::Checksum),
        ] {
            if let Some(map) = map.as_ref() {
                return by_column(map, problems, |entry, _| {
                    entry.value.as_ref().and_then(expected)
                })
                .map(make);
            }
        }
        if let Some(figure) = raw.row_sum.as_ref() {
            return expected(&figure.value).map(Check::RowSum);
        }
        self.wider_check(raw, problems)
    }

    /// The rules that are more than figures of columns.
    fn wider_check(&self, raw: &RawRule, problems: &mut Problems<'_>) -> Option<Check> {
        if let Some(fields) = raw.schema.as_ref() {
            return schema(&fields.value, &fields.place, problems).map(Check::Schema);
        }
        if let Some(fresh) = raw.freshness.as_ref() {
            let within = fresh.value.within.as_ref()?;
            return Some(Check::Freshness(Freshness {
                column: fresh.value.column.as_ref()?.value.0.clone(),
                within_seconds: super::job::whole_seconds(within.value, &within.place, 1, problems),
            }));
        }
        if let Some(sql) = raw.sql.as_ref() {
            return self.sql(&sql.value, &sql.place, problems).map(Check::Sql);
        }
        let command = raw.command.as_ref()?;
        Some(Check::Command(partition::command(command, problems)))
    }

    fn row_count(&self, count: &At<RawRowCount>, problems: &mut Problems<'_>) -> Option<RowCount> {
        let (dataset, ratio) = match &count.value {
            RawRowCount::Exactly(rows) => return Some(RowCount::Exactly(*rows)),
            RawRowCount::Input => (None, None),
            RawRowCount::Ratio(raw) => {
                let ratio = match raw.ratio.as_ref() {
                    Some(written) => Some(ratio(written, problems)?),
                    None => None,
                };
                (raw.input.as_ref(), ratio)
            }
        };
        let inputs: Vec<&str> = self
            .context
            .makers
            .get(self.name)
            .and_then(|makers| makers.first())
            .and_then(|maker| inputs_of(maker))
            .into_iter()
            .flatten()
            .filter_map(|input| Some(input.value.dataset.as_ref()?.value.0.as_str()))
            .collect();
        match dataset {
            Some(name) if !inputs.is_empty() && !inputs.contains(&name.value.0.as_str()) => {
                problems
                    .error(
                        &name.place,
                        format!(
                            "{:?} is no input of the job that makes this",
                            shorten(&name.value.0)
                        ),
                    )
                    .expected(format!("one of {}", list_of(&inputs)));
            }
            None if inputs.len() > 1 => {
                problems
                    .error(
                        &count.place,
                        format!("the job that makes this has {} inputs", inputs.len()),
                    )
                    .expected(format!("{{ input: {} }}", inputs.join(" or ")));
            }
            _ => {}
        }
        Some(RowCount::Input {
            dataset: dataset.map(|name| name.value.0.clone()),
            ratio,
        })
    }

    fn sql(&self, raw: &RawSql, place: &Place, problems: &mut Problems<'_>) -> Option<SqlRule> {
        let (asked, at) = match raw.connection.as_ref() {
            Some(name) => {
                if !self.context.connection_exists(name, problems) {
                    return None;
                }
                let connection = self.context.built_connections.get(&name.value.0);
                (connection.map(|connection| &connection.kind), &name.place)
            }
            None if raw.connection.is_written() => return None,
            None => (self.kind, place),
        };
        if let Some(kind) = asked.filter(|kind| !matches!(kind, ConnectionKind::Postgres { .. })) {
            problems
                .error(
                    at,
                    format!(
                        "a query needs a postgres connection, this one is of kind {}",
                        kind_word(kind)
                    ),
                )
                .hint("name one: { query: \"...\", connection: NAME }");
        }
        Some(SqlRule {
            query: raw.query.as_ref()?.value.0.clone(),
            connection: raw.connection.as_ref().map(|name| name.value.0.clone()),
        })
    }

    fn rejects(
        &self,
        raw: &At<RawRejects>,
        format: Option<&FileFormat>,
        rules: &[Rule],
        problems: &mut Problems<'_>,
    ) -> Option<Rejects> {
        if format.is_none_or(|format| format.shape == Shape::Parquet) {
            problems
                .error(
                    &raw.place.at_key(),
                    "rows can be taken out of csv and jsonl files only",
                )
                .hint("remove rejects, or let the script write bad rows to a file of its own");
        } else if !rules
            .iter()
            .any(|rule| rule.check.judges_rows() && rule.severity == Severity::Fail)
        {
            problems
                .error(
                    &raw.place.at_key(),
                    "no rule judges single rows, so none can be rejected",
                )
                .expected("a not_null, accepted, range or schema rule of severity fail");
        }
        if let Some(path) = raw.value.path.as_ref()
            && text::relative_path(path, "the path", "the connection's root", problems)
        {
            let found = text::placeholders(path, problems).unwrap_or_default();
            if !found.iter().any(|word| ["chunk", "ordinal"].contains(word)) {
                problems
                    .error(
                        &path.place,
                        "every chunk would write its rejects to the same file",
                    )
                    .expected("{chunk} or {ordinal} in the path");
            }
        }
        Some(Rejects {
            max: match &raw.value.max.as_ref()?.value {
                RawCap::Rows(rows) => RejectCap::Rows(*rows),
                RawCap::Percent(share) => RejectCap::Percent(share.clone()),
            },
            path: raw.value.path.as_ref().map(|path| path.value.0.clone()),
        })
    }
}

/// Warns of inputs that nothing vouches for and whose job does not say that it takes them so: the gate
/// will refuse every chunk of them.
pub(super) fn warn_unvouched(context: &Context<'_>, flow: &Flow, problems: &mut Problems<'_>) {
    for (name, job) in &flow.jobs {
        let unvouched = job.inputs.iter().find(|input| {
            let vouched = flow
                .datasets
                .get(&input.dataset)
                .is_none_or(|dataset| dataset.checks.vouch());
            let made = context.makers.contains_key(input.dataset.as_str());
            made && !vouched && !input.accept_unvalidated
        });
        let (Some(input), Some(entry)) = (unvouched, context.jobs.get(name)) else {
            continue;
        };
        let raw = entry.value.as_ref().and_then(|job| job.input.as_ref());
        let place = raw.map_or_else(|| entry.place.at_key(), |raw| raw.place.clone());
        let dataset = shorten(&input.dataset);
        problems
            .warning(
                &place,
                format!("nothing checks {dataset:?}, so job {name:?} will be refused each of its chunks: its format is not known and it has no rules"),
            )
            .expected("a data set with a path that ends in .csv, .jsonl or .parquet, a format, or validate rules")
            .hint(format!(
                "for example validate: [{{ command: [check.sh] }}] at {dataset}; or take it as it is: input: {{ dataset: {dataset}, accept: unvalidated }}"
            ));
    }
}

fn written_keys(raw: &RawRule) -> Vec<&'static str> {
    [
        ("row_count", raw.row_count.is_written()),
        ("not_null", raw.not_null.is_written()),
        ("unique", raw.unique.is_written()),
        ("accepted", raw.accepted.is_written()),
        ("range", raw.range.is_written()),
        ("sum", raw.sum.is_written()),
        ("min", raw.min.is_written()),
        ("max", raw.max.is_written()),
        ("checksum", raw.checksum.is_written()),
        ("row_sum", raw.row_sum.is_written()),
        ("schema", raw.schema.is_written()),
        ("freshness", raw.freshness.is_written()),
        ("sql", raw.sql.is_written()),
        ("command", raw.command.is_written()),
    ]
    .into_iter()
    .filter_map(|(word, written)| written.then_some(word))
    .collect()
}
