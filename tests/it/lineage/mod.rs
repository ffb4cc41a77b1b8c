//! What was made from superseded data: marked, listed, repaired in order, never under a reader.

mod asked;
mod readers;
mod stale;

use common::domain::WorkItem;
use common::endpoint::PgSession;
use serde_json::{Value, json};

use crate::harness::{Role, Shape, TestDb, TestFlow, TestLeader, TestWorker};

/// `odf.request_chunks` as an operator calls it; SQLSTATE, message and hint where refused.
async fn ask(
    operator: &PgSession,
    verb: &str,
    selectors: Value,
    options: Value,
) -> Result<Value, (String, String, String)> {
    let sql = "select odf.request_chunks($1, $2, 'why', $3)";
    let asked = operator
        .query_one(sql, &[&verb, &selectors, &options])
        .await;
    asked.map(|row| row.get(0)).map_err(|error| {
        let said = error.as_db_error().unwrap();
        (
            said.code().code().to_owned(),
            said.message().to_owned(),
            said.hint().unwrap_or_default().to_owned(),
        )
    })
}

/// Resubmits by name, `mid/00001`, with options.
async fn resubmit(operator: &PgSession, name: &str, options: Value) -> Value {
    let (dataset, key) = name.split_once('/').unwrap();
    let selectors = json!([{"dataset": dataset, "keys": [key]}]);
    ask(operator, "resubmit", selectors, options).await.unwrap()
}

/// The names of what is marked stale, in order.
async fn stale(db: &TestDb) -> Vec<String> {
    db.column(
        "select name from odf.chunk where stale_since is not null order by name collate \"C\"",
    )
    .await
}

/// The same from the publications alone: what any input of the newest generation has become since.
async fn superseded(db: &TestDb) -> Vec<String> {
    db.column(
        "select v.name from odf.chunk v join odf.data_chunk k using (chunk_id) \
           join lateral (select * from odf.publication p where p.chunk_id = v.chunk_id order by generation desc limit 1) p on true \
          where exists (select from unnest(p.input_ids, p.input_gens) u(id, gen) \
                         where (select count(*) from odf.publication i where i.chunk_id = u.id) > u.gen) \
             or exists (select from odf.job j join odf.job_input i using (job_id) \
                         where j.data_set_id = k.data_set_id and i.mapping = 'all' \
                           and (select count(*) from odf.publication x join odf.data_chunk c using (chunk_id) \
                                 where c.data_set_id = i.data_set_id) > p.fan_in_mark[1]) \
          order by v.name collate \"C\"",
    )
    .await
}

/// Claims and completes until nothing more comes, passes in between; what was run, in order.
async fn run_all(leader: &TestLeader, worker: &TestWorker) -> Vec<WorkItem> {
    let mut ran = Vec::new();
    loop {
        leader.passes().await;
        worker.beat().await;
        let items = worker.claim(50).await;
        if items.is_empty() {
            return ran;
        }
        worker.complete(&items).await;
        ran.extend(items);
    }
}

fn names(items: &[WorkItem]) -> Vec<String> {
    items
        .iter()
        .map(|item| format!("{}/{}", item.dataset, item.key))
        .collect()
}

/// Everything made once, with a total over all of `dst`.
async fn made(chunks: usize) -> (TestDb, TestFlow, TestLeader, TestWorker, PgSession) {
    let db = TestDb::new().await;
    let flow = Shape::fan_in(chunks).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 50).await;
    let operator = db.login(Role::Operator).await;
    assert_eq!(run_all(&leader, &worker).await.len(), 2 * chunks + 1);
    (db, flow, leader, worker, operator)
}
