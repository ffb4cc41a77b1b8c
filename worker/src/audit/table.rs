//! Rules of a table, asked by SQL over the rows of the chunk.
//!
//! One read-only snapshot for all of them. Names are quoted, values are bound; a rule whose query the
//! server refuses is broken and says so.

use std::collections::BTreeMap;

use chrono::{NaiveDateTime, Utc};
use common::domain::{Bounds, KeyColumn, RuleOutcome};
use common::endpoint::name::{TableName, quote_ident};
use common::endpoint::predicate::{checked_type, sql_predicate};
use common::flow::rules::{Check, Expected, Range};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Transaction};

use super::decimal::Decimal;
use super::probe::{Answer, InputRows, outcome};
use super::probes::{fresh, row_count};
use super::reported::Reported;
use super::session;
use crate::attempt::{AttemptContext, Failure};

/// Why a query gave no answer.
enum Refused {
    /// The rule does not fit the table.
    Rule(String),
    /// The server could not be asked; it may be another time.
    Server(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        // A time-out, a shutdown, a lack of room or a lost connection is not the rule's fault.
        let passing = ["08", "40", "53", "57", "58", "XX"];
        match error.code() {
            Some(code) if !passing.iter().any(|class| code.code().starts_with(class)) => {
                Self::Rule(common::endpoint::describe(&error))
            }
            _ => Self::Server(error),
        }
    }
}

/// What the text of an expression cannot be made of.
fn unfit(error: impl std::fmt::Display) -> Refused {
    Refused::Rule(error.to_string())
}

/// Asks every declared rule of the output table; none where there are none.
///
/// # Errors
/// `transient` where the server cannot be asked.
pub(crate) async fn audit_table(
    context: &AttemptContext,
    table: &str,
    reported: &Reported,
    inputs: &[InputRows],
) -> Result<Vec<RuleOutcome>, Failure> {
    let rules = &context.spec.checks.validate;
    if rules.iter().all(|rule| rule.check.is_custom()) {
        return Ok(Vec::new());
    }
    let name = &context.spec.output_at.connection;
    let mut opened = session::open(context, name).await?;
    let mut transaction = session::begin(&mut opened, name).await?;
    let failed = |error: &tokio_postgres::Error| session::failed(name, error);
    // Times without a zone are taken as in files: as if in UTC.
    transaction
        .batch_execute("SET LOCAL TIME ZONE 'UTC'")
        .await
        .map_err(|error| failed(&error))?;
    let mut outcomes = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.check.is_custom()) {
        let savepoint = transaction
            .savepoint("rule")
            .await
            .map_err(|error| failed(&error))?;
        let asked = async {
            let chunk = Chunk::of(&savepoint, table, &context.item.bounds).await?;
            chunk.ask(&rule.check, reported, inputs).await
        };
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(Refused::Rule(why)) => Answer::new(false, why),
            Err(Refused::Server(error)) => return Err(failed(&error)),
        };
        savepoint.rollback().await.map_err(|error| failed(&error))?;
        outcomes.push(outcome(&rule.check.to_string(), rule.severity, answer));
    }
    drop(transaction);
    opened.close().await;
    Ok(outcomes)
}

/// The rows of a chunk in a table.
struct Chunk<'t> {
    transaction: &'t Transaction<'t>,
    /// `FROM table WHERE condition`.
    from: String,
    types: BTreeMap<String, String>,
}

impl<'t> Chunk<'t> {
    async fn of(
        transaction: &'t Transaction<'t>,
        table: &str,
        bounds: &Bounds,
    ) -> Result<Self, Refused> {
        let quoted = TableName::parse(table)
            .and_then(|table| table.quoted())
            .map_err(unfit)?;
        let rows = transaction
            .query_typed(
                "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
                 WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
                &[(&quoted, Type::TEXT)],
            )
            .await?;
        if rows.is_empty() {
            return Err(Refused::Rule(format!("there is no table {table}")));
        }
        let types: BTreeMap<String, String> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        if let Bounds::KeyRange { columns, .. } | Bounds::NullKeys { columns } = bounds
            && let Some(missing) = columns
                .iter()
                .find(|column| !types.contains_key(&column.name))
        {
            return Err(Refused::Rule(format!(
                "{table} has no column {:?}, so the rows of this chunk cannot be told from others (hint: a sql rule)",
                missing.name
            )));
        }
        let condition = sql_predicate(bounds).map_err(unfit)?;
        Ok(Self {
            transaction,
            from: format!("FROM {quoted} WHERE {condition}"),
            types,
        })
    }

    async fn ask(
        &self,
        check: &Check,
        reported: &Reported,
        inputs: &[InputRows],
    ) -> Result<Answer, Refused> {
        match check {
            Check::RowCount(count) => {
                let rows = self.one("count(*)", &[]).await?.get::<_, i64>(0);
                Ok(row_count(count, rows.unsigned_abs(), inputs))
            }
            Check::NotNull(columns) => {
                let null = self.any_null(columns)?;
                let row = self
                    .one(&format!("count(*), count(*) FILTER (WHERE {null})"), &[])
                    .await?;
                let (rows, broken): (i64, i64) = (row.get(0), row.get(1));
                Ok(judged(broken, rows, "no NULL in"))
            }
            Check::Unique(columns) => self.unique(columns).await,
            Check::Accepted(map) => {
                self.each(map.iter(), |column, values: &Vec<String>| {
                    let select = format!(
                        "count({column}), count(*) FILTER (WHERE {column}::text <> ALL ($1)), \
                         min({column}::text) FILTER (WHERE {column}::text <> ALL ($1))"
                    );
                    (select, vec![(values.clone(), Type::TEXT_ARRAY)])
                })
                .await
            }
            Check::Range(map) => self.ranges(map).await,
            Check::Sum(map) => self.figures("sum", map, reported).await,
            Check::Min(map) => self.figures("min", map, reported).await,
            Check::Max(map) => self.figures("max", map, reported).await,
            Check::Freshness(rule) => {
                let column = self.column(&rule.column)?;
                let select = format!("max({column})::timestamptz AT TIME ZONE 'UTC'");
                let newest: Option<NaiveDateTime> = self.one(&select, &[]).await?.get(0);
                Ok(fresh(newest, rule.within_seconds, Utc::now().naive_utc()))
            }
            Check::Checksum(_)
            | Check::RowSum(_)
            | Check::Schema(_)
            | Check::Sql(_)
            | Check::Command(_) => Err(Refused::Rule(format!(
                "{} cannot be asked of a table",
                check.word()
            ))),
        }
    }

    /// A column's quoted name, once it is known to be there.
    fn column(&self, name: &str) -> Result<String, Refused> {
        if !self.types.contains_key(name) {
            let known: Vec<&str> = self.types.keys().map(String::as_str).collect();
            return Err(Refused::Rule(format!(
                "no column {name:?}, there are {}",
                known.join(", ")
            )));
        }
        quote_ident(name).map_err(unfit)
    }

    /// A column's type, once it is known to be nothing but one.
    fn type_of(&self, name: &str) -> Result<String, Refused> {
        let column = KeyColumn {
            name: name.to_owned(),
            sql_type: self.types.get(name).cloned().unwrap_or_default(),
            collation: None,
        };
        checked_type(&column).map(str::to_owned).map_err(unfit)
    }

    async fn one(
        &self,
        select: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Refused> {
        let rows = self
            .transaction
            .query_typed(&format!("SELECT {select} {}", self.from), values)
            .await?;
        rows.into_iter()
            .next()
            .ok_or_else(|| Refused::Rule("no answer".to_owned()))
    }

    fn any_null(&self, columns: &[String]) -> Result<String, Refused> {
        let tests = columns
            .iter()
            .map(|name| Ok(format!("{} IS NULL", self.column(name)?)))
            .collect::<Result<Vec<_>, Refused>>()?;
        Ok(tests.join(" OR "))
    }

    async fn unique(&self, columns: &[String]) -> Result<Answer, Refused> {
        let null = self.any_null(columns)?;
        let names = columns
            .iter()
            .map(|name| self.column(name))
            .collect::<Result<Vec<_>, Refused>>()?
            .join(", ");
        let select = format!(
            "count(*), count(*) FILTER (WHERE {null}), \
             (SELECT coalesce(sum(n - 1), 0)::bigint FROM (SELECT count(*) AS n {} AND NOT ({null}) \
              GROUP BY {names} HAVING count(*) > 1) AS same)",
            self.from
        );
        let row = self.one(&select, &[]).await?;
        let (rows, null, repeats): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        Ok(if repeats == 0 {
            Answer::new(
                true,
                format!("{} different of {rows} rows, {null} with NULL", rows - null),
            )
        } else {
            Answer::new(false, format!("{repeats} of {rows} rows repeat another"))
        })
    }

    async fn ranges(&self, map: &BTreeMap<String, Range>) -> Result<Answer, Refused> {
        let (mut ok, mut found) = (true, Vec::new());
        for (name, range) in map {
            let (column, kind) = (self.column(name)?, self.type_of(name)?);
            // A value is bound as text and becomes what the column holds on the server.
            let tests = format!("{column} < $1::text::{kind} OR {column} > $2::text::{kind}");
            let select = format!(
                "count({column}), count(*) FILTER (WHERE {tests}), min({column})::text, max({column})::text"
            );
            let row = self
                .one(
                    &select,
                    &[(&range.min, Type::TEXT), (&range.max, Type::TEXT)],
                )
                .await?;
            let (values, broken): (i64, i64) = (row.get(0), row.get(1));
            let text = |at: usize| {
                row.get::<_, Option<String>>(at)
                    .unwrap_or_else(|| "NULL".to_owned())
            };
            ok &= broken == 0;
            found.push(format!(
                "{name}: {} to {} in {values} values, {broken} outside",
                text(2),
                text(3)
            ));
        }
        Ok(Answer::new(ok, found.join("; ")))
    }

    /// One query for each column: values, values that break it, one of them.
    async fn each<'m, V: 'm>(
        &self,
        map: impl Iterator<Item = (&'m String, &'m V)>,
        query: impl Fn(&str, &V) -> (String, Vec<(Vec<String>, Type)>),
    ) -> Result<Answer, Refused> {
        let (mut ok, mut found) = (true, Vec::new());
        for (name, value) in map {
            let (select, values) = query(&self.column(name)?, value);
            let values: Vec<(&(dyn ToSql + Sync), Type)> = values
                .iter()
                .map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.clone()))
                .collect();
            let row = self.one(&select, &values).await?;
            let (all, broken): (i64, i64) = (row.get(0), row.get(1));
            let example = row
                .get::<_, Option<String>>(2)
                .map_or(String::new(), |text| format!(", for example {text:?}"));
            ok &= broken == 0;
            found.push(format!(
                "{name}: {broken} of {all} values are others{example}"
            ));
        }
        Ok(Answer::new(ok, found.join("; ")))
    }

    async fn figures(
        &self,
        word: &str,
        map: &BTreeMap<String, Expected>,
        reported: &Reported,
    ) -> Result<Answer, Refused> {
        let (mut ok, mut wanted, mut found) = (true, Vec::new(), Vec::new());
        for (name, expected) in map {
            let column = self.column(name)?;
            let expected = match expected {
                Expected::Equals(figure) => Some(figure.clone()),
                Expected::Reported => reported.figure(name, word).map(str::to_owned),
            };
            let row = if word == "sum" {
                let select = format!("count({column}), coalesce(sum({column}), 0)::text, false");
                self.one(&select, &[]).await?
            } else {
                let kind = self.type_of(name)?;
                let select = format!(
                    "count({column}), {word}({column})::text, coalesce({word}({column}) = $1::text::{kind}, false)"
                );
                self.one(&select, &[(&expected, Type::TEXT)]).await?
            };
            let seen = row
                .get::<_, Option<String>>(1)
                .unwrap_or_else(|| "no value".to_owned());
            let number = |text: &str| Decimal::parse(text.as_bytes());
            let same_sum = || {
                let wanted = expected.as_deref().and_then(number);
                wanted.is_some() && wanted == number(&seen)
            };
            ok &= row.get::<_, bool>(2) || word == "sum" && same_sum();
            let unsaid = "a figure that the script reports, which it did not";
            wanted.push(format!("{name}: {}", expected.as_deref().unwrap_or(unsaid)));
            found.push(format!("{name}: {seen} of {} values", row.get::<_, i64>(0)));
        }
        Ok(Answer::new(ok, found.join("; ")).expecting(wanted.join("; ")))
    }
}

fn judged(broken: i64, rows: i64, fine: &str) -> Answer {
    if broken == 0 {
        Answer::new(true, format!("{fine} {rows} rows"))
    } else {
        Answer::new(false, format!("{broken} of {rows} rows break it"))
    }
}
