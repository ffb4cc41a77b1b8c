//! Planning again: the old plan is whole until the one transaction of the switch, the new one after it.

use common::domain::{Bounds, ChunkId, FailureClass, NewChunk};
use common::store::replan::{ReplanState, Split};
use common::store::{LeaderProof, Settled, StoreError};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::flow::{apply_to, source_chunk};
use crate::harness::{Role, Shape, TestDb, TestFlow, TestLeader, TestWorker, eventually, failed};

/// A chunk of that key that covers something else.
fn other(key: usize) -> NewChunk {
    NewChunk {
        bounds: Bounds::Value {
            value: format!("other {key}"),
        },
        ..source_chunk(key)
    }
}

/// Asks as an operator; answers the replan's number.
async fn ask(db: &TestDb, name: &str, consent: bool, drain: bool) -> Result<i64, String> {
    let operator = db.login(Role::Operator).await;
    let sql = "select (odf.ask_replan($1, 'test', $2, $3) ->> 'replan_id')::bigint";
    match operator.query_one(sql, &[&name, &consent, &drain]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) => Err(common::endpoint::describe(&error)),
    }
}

async fn confirm(db: &TestDb, replan: i64, drain: bool) -> Result<(), String> {
    let operator = db.login(Role::Operator).await;
    let sql = "select odf.confirm_replan($1, $2)";
    let done = operator.query_one(sql, &[&replan, &drain]).await;
    done.map(|_| ())
        .map_err(|error| common::endpoint::describe(&error))
}

async fn now(db: &TestDb, replan: i64) -> Value {
    db.get("select odf.replan_now($1)", &[&replan]).await
}

/// Splits every data set of a replan into those chunks and prepares it, as a leader does.
async fn prepare(proof: &LeaderProof, replan: i64, chunks: &[NewChunk]) -> Result<(), StoreError> {
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

async fn switch(leader: &TestLeader, replan: i64) -> ReplanState {
    leader.proof.switch_plans(replan).await.unwrap().state
}

/// Asks, prepares, confirms and switches; answers the replan's number.
async fn replan(db: &TestDb, leader: &TestLeader, name: &str, chunks: &[NewChunk]) -> i64 {
    let replan = ask(db, name, false, false).await.unwrap();
    prepare(&leader.proof, replan, chunks).await.unwrap();
    confirm(db, replan, false).await.unwrap();
    assert_eq!(switch(leader, replan).await, ReplanState::Done);
    leader.proof.open_replans().await.unwrap();
    replan
}

/// Every row that decides about chunks, as one text.
async fn picture(db: &TestDb) -> String {
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
async fn sound(db: &TestDb) {
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

async fn chunk(db: &TestDb, name: &str) -> (i64, String, i32) {
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

async fn chain(chunks: usize) -> (TestDb, TestFlow, TestLeader, TestWorker) {
    let db = TestDb::new().await;
    let flow = Shape::chain(chunks).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 8).await;
    leader.passes().await;
    (db, flow, leader, worker)
}

#[tokio::test]
async fn what_stays_equal_keeps_all_and_the_rest_begins_anew() {
    let (db, _, leader, worker) = chain(6).await;
    assert_eq!(worker.drain(4).await, 12);
    let kept = chunk(&db, "dst/00002").await;
    let replaced = chunk(&db, "mid/00003").await;
    let gone = chunk(&db, "dst/00006").await;
    assert_eq!((kept.1.as_str(), kept.2), ("validated", 1));
    let lineage: Vec<i64> = db
        .column(&format!(
            "select unnest(input_ids) from odf.publication where chunk_id = {}",
            kept.0
        ))
        .await;

    // 1, 2 and 5 stay (5 under another number), 3 covers something else, 7 is new, 4 and 6 go.
    let cut = [
        source_chunk(1),
        source_chunk(2),
        other(3),
        source_chunk(5),
        source_chunk(7),
    ];
    let asked = ask(&db, "src", false, false).await.unwrap();
    prepare(&leader.proof, asked, &cut).await.unwrap();
    let preview = now(&db, asked).await["preview"].clone();
    let of = |set: &str, what: &str| {
        let sets = preview.as_array().unwrap();
        sets.iter().find(|s| s["dataset"] == set).unwrap()[what]
            .as_i64()
            .unwrap()
    };
    for set in ["src", "mid", "dst"] {
        let counts = ["old", "new", "kept", "fresh", "retired"].map(|what| of(set, what));
        assert_eq!(counts, [6, 5, 3, 2, 3], "{set}");
    }
    assert_eq!([of("src", "published"), of("mid", "published")], [0, 3]);
    assert_eq!(of("dst", "bytes"), 3000);
    confirm(&db, asked, false).await.unwrap();
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    sound_but_lanes_open(&db, &leader).await;

    assert_eq!(
        chunk(&db, "dst/00002").await,
        kept,
        "its identity, state and generation"
    );
    let after: Vec<i64> = db
        .column(&format!(
            "select unnest(input_ids) from odf.publication where chunk_id = {}",
            kept.0
        ))
        .await;
    assert_eq!(after, lineage);
    assert_eq!(
        db.count("odf.chunk where dataset = 'dst' and key in ('00004', '00006')")
            .await,
        0
    );
    assert_eq!(
        db.published(ChunkId(gone.0)).await.len(),
        1,
        "the record stays"
    );
    let ordinals: Vec<String> = db
        .column("select key from odf.chunk where dataset = 'mid' order by ordinal")
        .await;
    assert_eq!(ordinals, ["00001", "00002", "00003", "00005", "00007"]);
    let anew = chunk(&db, "mid/00003").await;
    assert_ne!(anew.0, replaced.0);
    assert_eq!(anew.2, 0);

    leader.passes().await;
    assert_eq!(
        worker.drain(4).await,
        4,
        "two chunks in two stages, and nothing else"
    );
    sound(&db).await;
    let fences: Vec<i64> = db
        .column("select fence from odf.publication p join odf.data_chunk c using (chunk_id) join odf.data_set d using (data_set_id)
                  where d.name = 'mid' and c.key = '00003' order by published_at")
        .await;
    assert!(
        fences.len() == 2 && fences[0] < fences[1],
        "no path twice: {fences:?}"
    );
    assert_eq!(
        db.scalar::<i32>("select attempts from odf.chunk where name = 'mid/00003'")
            .await,
        1
    );
    let states: Vec<String> = db
        .column("select distinct state from odf.plan order by 1")
        .await;
    assert_eq!(states, ["retired", "sealed"]);
    assert!(db.count("odf.event where kind = 'replan.done'").await == 1);
}

async fn sound_but_lanes_open(db: &TestDb, leader: &TestLeader) {
    leader.proof.open_replans().await.unwrap();
    sound(db).await;
}

#[tokio::test]
async fn states_of_every_kind_are_kept_and_retired() {
    let (db, _, leader, worker) = chain(8).await;
    worker.beat().await;
    let items = worker.claim(4).await;
    worker.complete(&items[..1]).await;
    for item in &items[1..3] {
        let end = failed(FailureClass::Transient);
        assert_eq!(worker.settle(item, end).await, Settled::Applied);
    }
    worker.complete(&items[3..]).await;
    for (key, state) in [("00005", "held"), ("00006", "cancelled")] {
        db.exec(
            &format!("update odf.chunk set status = '{state}' where name = 'mid/{key}'"),
            &[],
        )
        .await;
    }
    let before: Vec<String> = db
        .column("select to_jsonb(s)::text from odf.chunk_state s join odf.data_chunk using (chunk_id) where key <> '00002' and key <> '00005' order by 1")
        .await;
    let cut: Vec<NewChunk> = (1..=8)
        .filter(|n| *n != 2 && *n != 5)
        .map(source_chunk)
        .collect();
    replan(&db, &leader, "src", &cut).await;
    let after: Vec<String> = db
        .column("select to_jsonb(s)::text from odf.chunk_state s order by 1")
        .await;
    assert_eq!(after, before, "every row of a kept chunk is as it was");
    let retired: Vec<String> = db
        .column("select r.status::text from odf.retired_chunk r join odf.data_chunk using (chunk_id) join odf.data_set d using (data_set_id) where d.name = 'mid' order by key")
        .await;
    assert_eq!(retired, ["failed", "held"]);
    assert_eq!(
        db.count("odf.due").await,
        1,
        "only the kept one is tried again"
    );
    sound(&db).await;
    db.advance(std::time::Duration::from_secs(3600)).await;
    leader.passes().await;
    worker.drain(8).await;
    assert_eq!(
        db.count("odf.chunk where dataset = 'dst' and status = 'validated'")
            .await,
        5
    );
    sound(&db).await;
}

#[tokio::test]
async fn until_the_switch_nothing_of_it_is_seen_whatever_is_interrupted() {
    let (db, _, leader, worker) = chain(4).await;
    worker.beat().await;
    let items = worker.claim(2).await;
    worker.complete(&items).await;
    let before = picture(&db).await;
    let asked = ask(&db, "src", false, false).await.unwrap();
    let cut = [source_chunk(1), other(2), source_chunk(9)];
    // Interrupted in the middle of a batch, after it, and after all was prepared: each time begun anew.
    let sets = leader.proof.begin_replan(asked).await.unwrap();
    leader
        .proof
        .add_chunks(sets[0].plan_id, 0, &cut[..1])
        .await
        .unwrap();
    assert_eq!(picture(&db).await, before);
    let again = leader.proof.begin_replan(asked).await.unwrap();
    let refused = leader.proof.add_chunks(sets[0].plan_id, 1, &cut[1..]).await;
    assert!(
        matches!(refused, Err(StoreError::Overtaken(_))),
        "{refused:?}"
    );
    leader
        .proof
        .add_chunks(again[0].plan_id, 0, &cut)
        .await
        .unwrap();
    let wrong = Split {
        plan_id: again[0].plan_id,
        chunks: 2,
        notes: Vec::new(),
    };
    let refused = leader.proof.prepare_replan(asked, &[wrong]).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(picture(&db).await, before);
    prepare(&leader.proof, asked, &cut).await.unwrap();
    leader.passes().await;
    assert_eq!(
        picture(&db).await,
        before,
        "prepared, and nothing has changed"
    );
    // A switch that fails at its very end changes nothing either.
    db.exec(
        "alter table odf.replan add constraint unlucky check (state <> 'done')",
        &[],
    )
    .await;
    confirm(&db, asked, false).await.unwrap();
    let failed = leader.proof.switch_plans(asked).await;
    assert!(
        matches!(failed, Err(StoreError::Database { .. })),
        "{failed:?}"
    );
    assert_eq!(picture(&db).await, before);
    // Withdrawn: nothing is left of it but the record.
    db.exec("select odf.withdraw_replan($1, 'enough')", &[&asked])
        .await;
    leader.proof.open_replans().await.unwrap();
    while db.count("odf.plan where state <> 'retired' and plan_id not in (select plan_id from odf.data_set)").await > 0 {
        leader.proof.open_replans().await.unwrap();
    }
    assert_eq!(db.count("odf.data_chunk").await, 12);
    assert_eq!(db.count("odf.lane where replan_id is not null").await, 0);
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 6);
    sound(&db).await;
}

#[tokio::test]
async fn what_runs_refuses_it_or_is_waited_for_while_nothing_new_starts() {
    let (db, _, leader, worker) = chain(6).await;
    worker.beat().await;
    let items = worker.claim(2).await;
    let said = ask(&db, "src", true, false).await.unwrap_err();
    assert!(
        said.contains("2 chunks of src") && said.contains("running"),
        "{said}"
    );
    assert_eq!(db.count("odf.replan").await, 0);
    let asked = ask(&db, "src", false, false).await.unwrap();
    let cut: Vec<NewChunk> = (1..=6).map(other).collect();
    prepare(&leader.proof, asked, &cut).await.unwrap();
    let said = confirm(&db, asked, false).await.unwrap_err();
    assert!(said.contains("running"), "{said}");
    worker.beat().await;
    let more = worker.claim(1).await;
    assert_eq!(more.len(), 1, "refused, so nothing was stopped");

    confirm(&db, asked, true).await.unwrap();
    worker.beat().await;
    assert_eq!(worker.claim(8).await.len(), 0, "claims are stopped");
    let switched = leader.proof.switch_plans(asked).await.unwrap();
    assert_eq!(
        (switched.state, switched.running),
        (ReplanState::Confirmed, 3)
    );
    worker.complete(&items).await;
    leader.passes().await;
    worker.beat().await;
    assert_eq!(
        worker.claim(8).await.len(),
        0,
        "their consumers do not start either"
    );
    assert_eq!(leader.proof.switch_plans(asked).await.unwrap().running, 1);
    worker.complete(&more).await;
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    leader.proof.open_replans().await.unwrap();
    leader.passes().await;
    assert_eq!(worker.drain(8).await, 12, "all of the new plan");
    sound(&db).await;
}

#[tokio::test]
async fn a_claim_at_the_moment_of_consent_is_counted_or_gets_nothing() {
    let (db, _, leader, _) = chain(40).await;
    for round in 0..6 {
        let asked = ask(&db, "src", false, false).await.unwrap();
        let cut: Vec<NewChunk> = (1..=40)
            .map(|n| NewChunk {
                bounds: Bounds::Value {
                    value: format!("{round}/{n}"),
                },
                ..source_chunk(n)
            })
            .collect();
        prepare(&leader.proof, asked, &cut).await.unwrap();
        let mut tasks = JoinSet::new();
        for n in 0..4 {
            let worker = TestWorker::start(&db, &format!("r{round}w{n}"), 4).await;
            tasks.spawn(async move {
                worker.beat().await;
                let items = worker.claim(4).await;
                worker.complete(&items).await;
            });
        }
        let confirmed = confirm(&db, asked, true).await;
        confirmed.unwrap();
        eventually("the switch", async || {
            (switch(&leader, asked).await == ReplanState::Done).then_some(())
        })
        .await;
        tasks.join_all().await;
        leader.proof.open_replans().await.unwrap();
        leader.passes().await;
        sound(&db).await;
    }
}

#[tokio::test]
async fn who_takes_it_whole_waits_and_sees_that_it_changed() {
    let db = TestDb::new().await;
    Shape::fan_in(3).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    let mut done = worker.drain(4).await;
    leader.passes().await;
    done += worker.drain(4).await;
    assert_eq!(done, 7);
    let total = chunk(&db, "total/all").await;
    let mark =
        "select fan_in_mark from odf.publication order by published_at desc, chunk_id desc limit 1";
    let before: Vec<i64> = db.scalar(mark).await;

    // While the whole reader runs, what it reads is not replaced under it.
    db.exec(
        "update odf.chunk set status = 'resubmit' where name = 'total/all'",
        &[],
    )
    .await;
    leader.passes().await;
    worker.beat().await;
    let reading = worker.claim(1).await;
    assert_eq!(reading[0].dataset, "total");
    let said = ask(&db, "src", true, false).await.unwrap_err();
    assert!(said.contains("running"), "{said}");
    worker.complete(&reading).await;

    replan(&db, &leader, "src", &[source_chunk(1), other(2), other(3)]).await;
    assert_eq!(
        chunk(&db, "total/all").await.0,
        total.0,
        "its own plan is not touched"
    );
    db.exec(
        "update odf.chunk set status = 'resubmit' where name = 'total/all'",
        &[],
    )
    .await;
    leader.passes().await;
    assert_eq!(
        db.status(ChunkId(total.0)).await,
        "waiting",
        "the whole is not there yet"
    );
    assert_eq!(worker.drain(4).await, 4);
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 1);
    let after: Vec<i64> = db.scalar(mark).await;
    // Three chunks of generation 1 each time, and yet not the same three.
    assert!(after > before, "{before:?} {after:?}");
    sound(&db).await;
}

#[tokio::test]
async fn inputs_that_hang_together_are_split_together() {
    let db = TestDb::new().await;
    let cut = |table: &str| {
        format!("at: {{ connection: db, table: {table} }}, partition: {{ query: select 1 }}")
    };
    let flow = Shape::single(3)
        .set("src", &cut("src"))
        .set("other", &cut("other"))
        .stage("join", "input: [mid, other]", "joined")
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 6);
    let refused = ask(&db, "joined", false, false).await.unwrap_err();
    assert!(
        refused.contains("no partition") && refused.contains("other, src"),
        "{refused}"
    );

    let asked = ask(&db, "src", false, false).await.unwrap();
    let sets = leader.proof.begin_replan(asked).await.unwrap();
    let mut names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["other", "src"]);
    // Other keys on one side only: refused, and what is in force stays.
    let before = picture(&db).await;
    let mut split = Vec::new();
    for set in &sets {
        let chunks = if set.name == "src" {
            vec![source_chunk(1)]
        } else {
            vec![source_chunk(2)]
        };
        leader
            .proof
            .add_chunks(set.plan_id, 0, &chunks)
            .await
            .unwrap();
        split.push(Split {
            plan_id: set.plan_id,
            chunks: 1,
            notes: Vec::new(),
        });
    }
    let refused = leader
        .proof
        .prepare_replan(asked, &split)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("joined") && refused.contains("same chunks"),
        "{refused}"
    );
    assert_eq!(picture(&db).await, before);

    // The other side changes: what is made from both is made again, what is made of src alone is kept.
    let sets = leader.proof.begin_replan(asked).await.unwrap();
    let mut split = Vec::new();
    for set in &sets {
        let second = if set.name == "src" {
            source_chunk(2)
        } else {
            other(2)
        };
        leader
            .proof
            .add_chunks(set.plan_id, 0, &[source_chunk(1), second])
            .await
            .unwrap();
        split.push(Split {
            plan_id: set.plan_id,
            chunks: 2,
            notes: Vec::new(),
        });
    }
    leader.proof.prepare_replan(asked, &split).await.unwrap();
    confirm(&db, asked, false).await.unwrap();
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    leader.proof.open_replans().await.unwrap();
    leader.passes().await;
    sound(&db).await;
    let of = async |set: &str| {
        db.count(&format!(
            "odf.chunk where dataset = '{set}' and status = 'validated'"
        ))
        .await
    };
    assert_eq!((of("mid").await, of("joined").await), (2, 1));
    assert_eq!(worker.drain(4).await, 1, "joined/00002 alone");
    sound(&db).await;
    assert_eq!(flow.chunks(&db, "joined").await.len(), 2);
}

#[tokio::test]
async fn an_apply_or_a_new_asking_ends_what_was_prepared() {
    let (db, flow, leader, worker) = chain(3).await;
    let first = ask(&db, "src", false, false).await.unwrap();
    prepare(&leader.proof, first, &[other(1)]).await.unwrap();
    let second = ask(&db, "src", false, false).await.unwrap();
    assert_ne!(first, second, "the source has moved on since");
    assert_eq!(now(&db, first).await["state"], "withdrawn");
    prepare(&leader.proof, second, &[other(1)]).await.unwrap();
    confirm(&db, second, false).await.unwrap();
    assert_eq!(
        ask(&db, "src", true, false).await,
        Ok(second),
        "one that has consent is joined"
    );
    let control = db.control(Role::Coordinator);
    apply_to(&control, &flow.flow, "another document")
        .await
        .unwrap();
    let ended = now(&db, second).await;
    assert_eq!(
        (ended["state"].as_str(), ended["refused"].as_bool()),
        (Some("failed"), Some(true))
    );
    assert_eq!(switch(&leader, second).await, ReplanState::Failed);
    assert_eq!(db.count("odf.lane where replan_id is not null").await, 0);
    for _ in 0..6 {
        leader.proof.open_replans().await.unwrap();
    }
    assert_eq!(db.count("odf.data_chunk").await, 9, "tidied up");
    leader.passes().await;
    assert_eq!(worker.drain(4).await, 6);
    // Nobody consents for an hour.
    let third = ask(&db, "src", false, false).await.unwrap();
    prepare(&leader.proof, third, &[other(1)]).await.unwrap();
    db.advance(std::time::Duration::from_secs(3601)).await;
    leader.proof.open_replans().await.unwrap();
    assert_eq!(now(&db, third).await["state"], "withdrawn");
    sound(&db).await;
}

#[tokio::test]
async fn data_that_falls_out_of_use_goes_under_its_keep_rule() {
    let db = TestDb::new().await;
    let place =
        |path: &str| format!("at: {{ connection: lake, path: \"{path}\" }}, keep: until_consumed");
    Shape::chain(3)
        .set("mid", &place("mid/{chunk}.{fence}"))
        .set(
            "dst",
            "at: { connection: lake, path: \"dst/{chunk}.{fence}\" }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    worker.beat().await;
    db.exec("select odf.pause('load', true, 'test')", &[]).await;
    worker.drain(4).await;
    replan(&db, &leader, "src", &[source_chunk(1), other(2)]).await;
    let taken = worker.session.take_removals(10).await.unwrap();
    let mut names: Vec<String> = taken
        .iter()
        .map(|removal| removal.location.clone().unwrap_or_default())
        .collect();
    names.sort();
    assert_eq!(
        names.len(),
        2,
        "mid/00002 and mid/00003 as they were: {names:?}"
    );
    assert!(
        names[0].starts_with("mid/00002") && names[1].starts_with("mid/00003"),
        "{names:?}"
    );
    sound(&db).await;
}

#[tokio::test]
async fn a_long_switch_holds_up_nobody_else() {
    let (db, _, leader, worker) = chain(3).await;
    Shape::single(20).named("beside").build(&db).await;
    leader.passes().await;
    let asked = ask(&db, "test:src", false, false).await.unwrap();
    prepare(&leader.proof, asked, &[other(1)]).await.unwrap();
    confirm(&db, asked, false).await.unwrap();
    // The switch stays open after all that it writes until somebody lets go of this row.
    let mut slow = db.another_admin().await;
    let held = slow.transaction().await.unwrap();
    held.execute(
        "select from odf.data_set where name = 'dst' for update",
        &[],
    )
    .await
    .unwrap();
    let mut tasks = JoinSet::new();
    let proof = leader.proof.clone();
    tasks.spawn(async move { proof.switch_plans(asked).await.unwrap().state });
    eventually("the switch to wait", async || {
        let waiting = db
            .count("pg_stat_activity where wait_event_type = 'Lock' and query like '%switch_plans%' and pid <> pg_backend_pid()")
            .await;
        (waiting > 0).then_some(())
    })
    .await;
    worker.beat().await;
    let items = worker.claim(4).await;
    assert_eq!(items.len(), 4, "another flow's work goes on");
    worker.complete(&items).await;
    db.exec("select odf.scale('beside:extract', '2', null)", &[])
        .await;
    TestWorker::start(&db, "w2", 1).await.beat().await;
    held.rollback().await.unwrap();
    let ended = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(ended, ReplanState::Done);
    sound_but_lanes_open(&db, &leader).await;
}

#[tokio::test]
async fn two_hundred_thousand_chunks_switch_at_once() {
    let n = 70_000;
    let (db, _, leader, _) = chain(n).await;
    let cut: Vec<NewChunk> = (1..=n)
        .map(|i| {
            if i % 2 == 0 {
                source_chunk(i)
            } else {
                other(i)
            }
        })
        .collect();
    let asked = ask(&db, "src", false, false).await.unwrap();
    let started = std::time::Instant::now();
    prepare(&leader.proof, asked, &cut).await.unwrap();
    let prepared = started.elapsed();
    confirm(&db, asked, false).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(switch(&leader, asked).await, ReplanState::Done);
    let took = started.elapsed();
    // Generous: what must not happen is a cost for each pair of chunks.
    assert!(
        took.as_secs() < 60,
        "switched in {took:?}, prepared in {prepared:?}"
    );
    sound_but_lanes_open(&db, &leader).await;
}
