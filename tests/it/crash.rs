//! The server itself fails: what was answered is kept, nobody is declared dead for it, and no fence is
//! handed out twice.

use std::os::unix::fs::{MetadataExt as _, chown};

use common::endpoint::SecretString;
use common::private_pg::{Death, PrivatePg, StopMode};
use common::store::{ControlDb, Settled, StoreError};
use coordinator::loops::LeaderPass;
use coordinator::loops::sweep::Sweep;

use crate::harness::cluster::{PASSWORD, own_server, prepare, run, session};
use crate::harness::flow::TestFlow;
use crate::harness::{Shape, TestLeader, TestWorker, eventually, validated};

/// A server that may be killed, with a schema, a flow, a worker and a leader.
struct Place {
    pg: PrivatePg,
    control: ControlDb,
    worker: TestWorker,
    leader: TestLeader,
    _flow: TestFlow,
}

impl Place {
    async fn new(settings: &[(&str, &str)], chunks: usize) -> Self {
        let pg = own_server(settings).await;
        pg.ensure_database("odf").await.unwrap();
        prepare(&pg.url("odf")).await;
        let admin = session(&pg.url("odf")).await;
        let login = format!(
            "create role everybody login password '{PASSWORD}' in role odf_worker, odf_coordinator"
        );
        run(&admin, &login).await;
        admin.close().await;
        let url = format!(
            "postgres://everybody:{PASSWORD}@127.0.0.1:{}/odf?sslmode=disable",
            pg.port()
        );
        let control = ControlDb::new(SecretString::from(url), 4, "odf-it").unwrap();
        let flow = Shape::single(chunks).build_on(&control).await;
        let worker = TestWorker::start_on(&control, "w1", 4).await;
        let leader = TestLeader::start_on(&control).await;
        Self {
            pg,
            control,
            worker,
            leader,
            _flow: flow,
        }
    }

    async fn number(&self, sql: &str) -> i64 {
        let admin = session(&self.pg.url("odf")).await;
        let row = admin.query_one(sql, &[]).await.unwrap();
        admin.close().await;
        row.get(0)
    }

    /// Repeats calls until the pool has noticed that its sessions are gone.
    async fn reconnect(&self) {
        eventually("a session after the restart", async || {
            self.worker.try_beat(0).await.ok()
        })
        .await;
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_crash_even_where_commits_are_asynchronous() {
    let settings = [
        ("synchronous_commit", "off"),
        ("wal_writer_delay", "10s"),
        ("wal_writer_flush_after", "100MB"),
    ];
    let mut place = Place::new(&settings, 6).await;
    let first = place.worker.claim(2).await;
    place.worker.complete(&first[..1]).await;
    let second = place.worker.claim(2).await;
    place.pg.kill_hard(Death::Kill).await.unwrap();
    place.pg.restart(StopMode::Fast).await.unwrap();
    place.reconnect().await;
    let held: Vec<_> = first[1..]
        .iter()
        .chain(&second)
        .map(|i| (i.chunk_id, i.fence))
        .collect();
    assert_eq!(
        place.worker.session.reconcile(&held).await.unwrap(),
        [],
        "every lease is still there"
    );
    assert_eq!(
        place.number("select count(*) from odf.publication").await,
        1
    );
    assert_eq!(
        place.worker.settle(&first[0], validated(&first[0])).await,
        Settled::AlreadyApplied
    );
    let rest: Vec<_> = first[1..].iter().chain(&second).cloned().collect();
    place.worker.complete(&rest).await;
}

#[tokio::test]
async fn a_restart_declares_nobody_dead() {
    let mut place = Place::new(&[], 6).await;
    let mut sweep = Sweep::new(1.0);
    let items = place.worker.claim(3).await;
    let admin_url = place.pg.url("odf");
    let advance = async |seconds: u32| {
        let admin = session(&admin_url).await;
        run(&admin, &format!("select odf.move_clock('{seconds} s')")).await;
        admin.close().await;
    };
    sweep.pass(&place.leader.proof).await.unwrap();
    advance(30).await;
    sweep.pass(&place.leader.proof).await.unwrap();
    place.pg.restart(StopMode::Immediate).await.unwrap();
    let lost = place.leader.proof.beats().await;
    assert!(
        lost.is_ok()
            || matches!(
                lost,
                Err(StoreError::Unreachable { .. } | StoreError::Connect(_))
            ),
        "{lost:?}"
    );
    eventually("the leader to be back", async || {
        place.leader.proof.beats().await.ok()
    })
    .await;
    // 30 s before and 30 s after: the restart starts the count again.
    sweep.pass(&place.leader.proof).await.unwrap();
    advance(30).await;
    sweep.pass(&place.leader.proof).await.unwrap();
    assert_eq!(place.number("select count(*) from odf.lease").await, 3);
    assert_eq!(
        place.number("select count(*) from odf.ready").await,
        3,
        "nothing was queued again"
    );
    place.reconnect().await;
    place.worker.complete(&items).await;
    assert_eq!(
        place
            .number("select max(attempt_no)::bigint from odf.chunk_state")
            .await,
        1
    );
}

#[tokio::test]
async fn a_new_timeline_makes_every_later_fence_higher() {
    let mut place = Place::new(&[("restore_command", "false")], 2).await;
    let before = place.worker.claim_one().await;
    // As after a promotion or a restore: recovery ends in a new timeline.
    let data_dir = place.pg.data_dir().to_owned();
    let owner = std::fs::metadata(&data_dir).unwrap();
    let signal = data_dir.join("recovery.signal");
    std::fs::write(&signal, "").unwrap();
    chown(&signal, Some(owner.uid()), Some(owner.gid())).unwrap();
    place.pg.restart(StopMode::Fast).await.unwrap();
    place.reconnect().await;
    assert_eq!(
        place.worker.settle(&before, validated(&before)).await,
        Settled::Applied,
        "what runs goes on"
    );
    let after = place.worker.claim_one().await;
    assert_eq!(
        after.fence.epoch(),
        before.fence.epoch() + 1,
        "at once, before any checkpoint"
    );
    // And an operator's recovery after a restore raises it beyond what the lost time may have seen.
    let admin = session(&place.pg.url("odf")).await;
    run(
        &admin,
        "update odf.installation set epoch_offset = epoch_offset + 1",
    )
    .await;
    admin.close().await;
    place.worker.session.end("over").await.unwrap();
    let next = TestWorker::start_on(&place.control, "w2", 1).await;
    let last = next.claim_one().await;
    assert_eq!(
        (last.chunk_id, last.fence.epoch()),
        (after.chunk_id, before.fence.epoch() + 2)
    );
    assert!(last.fence > after.fence);
}
