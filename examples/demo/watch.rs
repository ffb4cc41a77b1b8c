//! Looking at the control database while it works, as an operator may: by plain SQL.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use common::endpoint::PgSession;

/// The data sets of the flow.
pub(crate) const SOURCE_SET: &str = "lineitem";
/// What the extract makes.
pub(crate) const FILE_SET: &str = "lineitem_file";
/// What the load makes.
pub(crate) const COPY_SET: &str = "lineitem_copy";

/// Where one data set stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) chunks: i64,
    pub(crate) validated: i64,
    pub(crate) failed: i64,
    pub(crate) exhausted: i64,
    pub(crate) running: i64,
    pub(crate) plan_error: Option<String>,
}

/// Where everything stands.
pub(crate) type State = BTreeMap<String, Progress>;

/// Attempts of one data set by how they ended.
pub(crate) type Attempts = BTreeMap<String, i64>;

const STATE: &str = "
    select d.name, d.plan_error, coalesce(p.chunks, 0),
           coalesce((select sum(n) from odf.progress_now n
                      where n.data_set_id = d.data_set_id and status = 'validated'), 0)::bigint,
           coalesce((select sum(n) from odf.progress_now n
                      where n.data_set_id = d.data_set_id and status = 'failed'), 0)::bigint,
           coalesce((select sum(n) from odf.progress_now n
                      where n.data_set_id = d.data_set_id and status = 'exhausted'), 0)::bigint,
           (select count(*) from odf.lease l where l.data_set_id = d.data_set_id)
      from odf.data_set d left join odf.plan p on p.plan_id = d.plan_id";

/// Asks where everything stands.
pub(crate) async fn state(session: &PgSession) -> Result<State> {
    let rows = session
        .query(STATE, &[])
        .await
        .context("ask the control database how far it is")?;
    Ok(rows
        .iter()
        .map(|row| {
            let progress = Progress {
                plan_error: row.get(1),
                chunks: row.get(2),
                validated: row.get(3),
                failed: row.get(4),
                exhausted: row.get(5),
                running: row.get(6),
            };
            (row.get(0), progress)
        })
        .collect())
}

/// Counts a data set's attempts by outcome.
pub(crate) async fn attempts(session: &PgSession, data_set: &str) -> Result<Attempts> {
    let rows = session
        .query(
            "select a.outcome, count(*)
               from odf.attempt a join odf.data_chunk c using (chunk_id) join odf.data_set d using (data_set_id)
              where d.name = $1 group by a.outcome",
            &[&data_set],
        )
        .await
        .context("count the attempts")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Counts the publications of a data set that rest on one of these (chunk key, fence) pairs.
pub(crate) async fn published(
    session: &PgSession,
    data_set: &str,
    keys: &[String],
    fences: &[i64],
) -> Result<i64> {
    let row = session
        .query_one(
            "select count(*) from odf.publication p
               join odf.data_chunk c using (chunk_id) join odf.data_set d using (data_set_id)
               join unnest($2::text[], $3::bigint[]) as killed(key, fence)
                 on killed.key = c.key and killed.fence = p.fence
              where d.name = $1",
            &[&data_set, &keys, &fences],
        )
        .await
        .context("look for publications of killed attempts")?;
    Ok(row.get(0))
}

/// The key of a chunk of that data set in that state, if there is one.
pub(crate) async fn any_chunk(
    session: &PgSession,
    data_set: &str,
    status: &str,
) -> Result<Option<String>> {
    let row = session
        .query_opt(
            "select c.key from odf.chunk_state s
               join odf.data_chunk c using (chunk_id) join odf.data_set d on d.data_set_id = c.data_set_id
              where d.name = $1 and s.status::text = $2 order by c.ordinal limit 1",
            &[&data_set, &status],
        )
        .await
        .context("look for a chunk")?;
    Ok(row.map(|row| row.get(0)))
}
