//! What the tests of planning again share: asking as an operator, preparing as a leader, and what must
//! hold of every chunk afterwards.

use common::domain::{Bounds, NewChunk};
use common::store::replan::{ReplanState, Split};
use common::store::{LeaderProof, StoreError};
use serde_json::Value;

use crate::harness::flow::source_chunk;
use crate::harness::{Role, Shape, TestDb, TestFlow, TestLeader, TestWorker};

/// A chunk of that key that covers something else.
pub(crate) fn other(key: usize) -> NewChunk {
    NewChunk {
        bounds: Bounds::Value {
            value: format!("other {key}"),
        },
        ..source_chunk(key)
    }
}

/// Asks as an operator; answers the replan's number.
pub(crate) async fn ask(
    db: &TestDb,
    name: &str,
    consent: bool,
    drain: bool,
) -> Result<i64, String> {
    let operator = db.login(Role::Operator).await;
    let sql = "select (odf.ask_replan($1, 'test', $2, $3) ->> 'replan_id')::bigint";
    match operator.query_one(sql, &[&name, &consent, &drain]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) => Err(common::endpoint::describe(&error)),
    }
}

/// Consents as an operator.
pub(crate) async fn confirm(db: &TestDb, replan: i64, drain: bool) -> Result<(), String> {
    let operator = db.login(Role::Operator).await;
    let sql = "select odf.confirm_replan($1, $2)";
    let done = operator.query_one(sql, &[&replan, &drain]).await;
    done.map(|_| ())
        .map_err(|error| common::endpoint::describe(&error))
}

/// Where a replan stands.
pub(crate) async fn now(db: &TestDb, replan: i64) -> Value {
    db.get("select odf.replan_now($1)", &[&replan]).await
}

/// Splits every data set of a replan into those chunks and prepares it, as a leader does.
pub(crate) async fn prepare(
    proof: &LeaderProof,
    replan: i64,
    chunks: &[NewChunk],
) -> Result<(), StoreError> {
    let mut split = Vec::new();
    for set in proof.begin_replan(replan).await? {
        let mut after = 0;
        for batch in chunks.chunks(5000) {
            after += proof.add_chunks(set.plan_id, after, batch).await?;
        }
        split.push(Split {
            plan_id: set.plan_id,
            chunks: after,
            notes: Vec::new(),
        });
    }
    proof.prepare_replan(replan, &split).await
}

/// One try of the leader to let it take force.
pub(crate) async fn switch(leader: &TestLeader, replan: i64) -> ReplanState {
    leader.proof.switch_plans(replan).await.unwrap().state
}

/// Asks, prepares, confirms and switches; answers the replan's number.
pub(crate) async fn replan(
    db: &TestDb,
    leader: &TestLeader,
    name: &str,
    chunks: &[NewChunk],
) -> i64 {
    let replan = ask(db, name, false, false).await.unwrap();
    prepare(&leader.proof, replan, chunks).await.unwrap();
    confirm(db, replan, false).await.unwrap();
    assert_eq!(switch(leader, replan).await, ReplanState::Done);
    leader.proof.open_replans().await.unwrap();
    replan
}

/// Every row that decides about chunks, as one text.
pub(crate) async fn picture(db: &TestDb) -> String {
    db.scalar(
        "select string_agg(line, chr(10) order by line) from (
           select to_jsonb(s)::text as line from odf.chunk_state s
           union all select to_jsonb(d)::text from odf.data_set d
           union all select to_jsonb(c)::text from odf.data_chunk c join odf.data_set d using (plan_id)
           union all select to_jsonb(e)::text from odf.chunk_edge e join odf.chunk_state using (chunk_id)
           union all select to_jsonb(p)::text from odf.publication p
           union all select to_jsonb(r)::text from odf.ready r) x",
    )
    .await
}

/// What must hold of chunks, whatever was planned again.
pub(crate) async fn sound(db: &TestDb) {
    let wrong: Vec<String> = db
        .column(
            "select 'state without a plan in force: ' || s.chunk_id from odf.chunk_state s
               where not exists (select from odf.data_chunk c join odf.data_set d using (plan_id) where c.chunk_id = s.chunk_id)
             union all
             select 'chunk in force without a state: ' || c.chunk_id from odf.data_chunk c join odf.data_set d using (plan_id)
               where not exists (select from odf.chunk_state s where s.chunk_id = c.chunk_id)
             union all
             select 'edge from a chunk that is not in force: ' || e.chunk_id from odf.chunk_edge e join odf.chunk_state using (chunk_id)
               where not exists (select from odf.chunk_state i where i.chunk_id = e.input_id)
             union all
             select 'made chunk with a wrong number of inputs: ' || c.chunk_id
               from odf.chunk_state c join odf.job j on j.data_set_id = c.data_set_id and not j.retired
              where (select count(*) from odf.chunk_edge e where e.chunk_id = c.chunk_id)
                 <> (select count(*) from odf.job_input i where i.job_id = j.job_id and i.mapping = 'same_key')
             union all
             select 'plan with a wrong count: ' || p.plan_id from odf.plan p join odf.data_set d using (plan_id)
              where p.state <> 'sealed' or p.chunks <> (select count(*) from odf.data_chunk c where c.plan_id = p.plan_id)
                 or p.chunks <> (select coalesce(max(ordinal), 0) from odf.data_chunk c where c.plan_id = p.plan_id)
             union all
             select 'counted wrongly: ' || n.data_set_id || ' ' || n.status from odf.progress_now n
              where n.n <> (select count(*) from odf.chunk_state s where s.data_set_id = n.data_set_id and s.status = n.status)
             union all
             select 'fence twice: ' || d.name || '/' || c.key || ' ' || p.fence
               from odf.publication p join odf.data_chunk c using (chunk_id) join odf.data_set d on d.data_set_id = c.data_set_id
              group by d.name, c.key, p.fence having count(*) > 1
             union all
             select 'queued and not there: ' || r.chunk_id from odf.ready r where not exists (select from odf.chunk_state s where s.chunk_id = r.chunk_id)
             union all
             select 'lane stopped for ever: ' || n.lane_id from odf.lane n join odf.replan r using (replan_id) where r.state = 'done'",
        )
        .await;
    assert_eq!(wrong, [""; 0]);
    assert_eq!(db.bugs().await, [""; 0]);
}

/// Identity, state and generation of a chunk in force.
pub(crate) async fn chunk(db: &TestDb, name: &str) -> (i64, String, i32) {
    let text: String = db
        .get(
            "select chunk_id || ' ' || status || ' ' || generation from odf.chunk where name = $1",
            &[&name],
        )
        .await;
    let parts: Vec<&str> = text.split(' ').collect();
    (
        parts[0].parse().unwrap(),
        parts[1].to_owned(),
        parts[2].parse().unwrap(),
    )
}

/// A chain of two jobs over so many chunks, planned, a leader and a worker.
pub(crate) async fn chain(chunks: usize) -> (TestDb, TestFlow, TestLeader, TestWorker) {
    let db = TestDb::new().await;
    let flow = Shape::chain(chunks).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    leader.passes().await;
    (db, flow, leader, worker)
}

/// As [`sound`], once the lanes are opened again.
pub(crate) async fn sound_but_lanes_open(db: &TestDb, leader: &TestLeader) {
    leader.proof.open_replans().await.unwrap();
    sound(db).await;
}
