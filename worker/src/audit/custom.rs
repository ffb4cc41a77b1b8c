//! Rules that a person wrote: a query that answers true, a program that ends with 0.
//!
//! A query runs read-only, the chunk's values bound as parameters; a program runs under the guard as
//! every script does. Both must say what they found.

use common::domain::{Bounds, RuleOutcome};
use common::flow::rules::{Check, SqlRule};
use tokio_postgres::types::Type;

use super::probe::{Answer, outcome};
use super::session;
use crate::attempt::{AttemptContext, AttemptControl, Failure};
use crate::guard::GuardHandle;
use crate::job::{Checked, run_check};

/// Asks the declared queries and programs, in the order of the file.
///
/// # Errors
/// What kept one from being asked at all: a database that is away, a program that is missing or that
/// ends with a code other than 0 and 65.
pub(crate) async fn custom_rules(
    context: &AttemptContext,
    control: &AttemptControl,
    guard: Option<&GuardHandle>,
) -> Result<Vec<RuleOutcome>, Failure> {
    let mut outcomes = Vec::new();
    for rule in &context.spec.checks.validate {
        let answer = match &rule.check {
            Check::Sql(sql) => query(context, sql).await?,
            Check::Command(argv) => {
                let guard = guard.ok_or_else(|| {
                    Failure::host("a command rule needs a guard process, and this worker has none")
                })?;
                program(context, control, guard, argv, outcomes.len()).await?
            }
            _ => continue,
        };
        outcomes.push(outcome(&rule.check.to_string(), rule.severity, answer));
    }
    Ok(outcomes)
}

async fn query(context: &AttemptContext, rule: &SqlRule) -> Result<Answer, Failure> {
    let name = rule
        .connection
        .as_ref()
        .unwrap_or(&context.spec.output_at.connection);
    let mut opened = session::open(context, name).await?;
    let transaction = session::begin(&mut opened, name).await?;
    // The first column is the answer, whatever it is called; the others are what was found.
    let written = rule.query.trim_end().trim_end_matches(';');
    let text = format!(
        "SELECT pg_typeof(odf_rule.ok)::text, odf_rule.ok::text, row_to_json(odf_rule)::text \
         FROM (\n{written}\n) AS odf_rule(ok) LIMIT 2"
    );
    let item = &context.item;
    let (lower, upper) = match &item.bounds {
        Bounds::KeyRange { lower, upper, .. } => (
            lower.as_deref().map(key_text),
            upper.as_deref().map(key_text),
        ),
        _ => (None, None),
    };
    let fence = item.fence.to_string();
    let asked = transaction
        .query_typed(
            &text,
            &[
                (&item.key, Type::TEXT),
                (&lower, Type::TEXT),
                (&upper, Type::TEXT),
                (&fence, Type::TEXT),
            ],
        )
        .await;
    drop(transaction);
    opened.close().await;
    let rows = match asked {
        Ok(rows) => rows,
        // A query that is wrong stays wrong; a server that is away comes back.
        Err(error)
            if error
                .as_db_error()
                .is_some_and(|db| db.code().code().starts_with("42")) =>
        {
            return Ok(Answer::new(false, common::endpoint::describe(&error)));
        }
        Err(error) => return Err(session::failed(name, &error)),
    };
    let [row] = rows.as_slice() else {
        let found = if rows.is_empty() {
            "no row"
        } else {
            "more than one row"
        };
        return Ok(Answer::new(false, found).expecting("one row of one boolean"));
    };
    let kind: String = row.get(0);
    let ok: Option<String> = row.get(1);
    let found: String = row.get(2);
    if kind != "boolean" {
        return Ok(Answer::new(false, format!("a {kind}: {found}"))
            .expecting("a boolean as the first column"));
    }
    Ok(Answer::new(ok.as_deref() == Some("true"), found).expecting("true"))
}

/// One value as it is, several as a JSON array: as scripts get them in `ODF_LOWER`.
fn key_text(key: &[String]) -> String {
    match key {
        [one] => one.clone(),
        many => serde_json::Value::from(many.to_vec()).to_string(),
    }
}

async fn program(
    context: &AttemptContext,
    control: &AttemptControl,
    guard: &GuardHandle,
    argv: &[String],
    number: usize,
) -> Result<Answer, Failure> {
    let checked = run_check(guard, context, control, argv, number).await?;
    Ok(match checked {
        Checked::Kept(found) => Answer::new(true, found),
        Checked::Broken(found) => {
            let found = if found.is_empty() {
                "no, and nothing was said".to_owned()
            } else {
                found
            };
            Answer::new(false, found).expecting("exit code 0")
        }
    })
}
