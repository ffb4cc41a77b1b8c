//! Rights for large fleets: given out in work that grows with sessions and lanes, not with slots, and
//! shared as evenly as if they were given one by one.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::harness::{Shape, TestDb};

/// Slot by slot: what `odf.share_out` must come to.
fn one_by_one(caps: &[i32], mut room: i32) -> Vec<i32> {
    let mut given = vec![0; caps.len()];
    loop {
        let before = room;
        for (given, cap) in given.iter_mut().zip(caps) {
            if *given < *cap && room > 0 {
                *given += 1;
                room -= 1;
            }
        }
        if room == before {
            return given;
        }
    }
}

#[tokio::test]
async fn sharing_out_is_going_round() {
    let db = TestDb::new().await;
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut cases = vec![
        (vec![], 5),
        (vec![0, 0], 3),
        (vec![3, 3, 3], 7),
        (vec![1, 5, 1, 5], 8),
        (vec![2], -4),
    ];
    for _ in 0..300 {
        let most = [1, 3, 40][random.random_range(0..3)];
        let caps: Vec<i32> = (0..random.random_range(0..12))
            .map(|_| random.random_range(0..=most))
            .collect();
        let sum: i32 = caps.iter().sum();
        cases.push((caps, random.random_range(-1..=sum + 2)));
    }
    for (caps, room) in cases {
        let given: Vec<i32> = db
            .get("select odf.share_out($1, $2)", &[&caps, &room])
            .await;
        assert_eq!(given, one_by_one(&caps, room), "{caps:?} {room}");
    }
}

/// 300 sessions of 10,000 slots each on 13 lanes.
async fn large_fleet(db: &TestDb) {
    let mut shape = Shape::single(500)
        .pool("shared", "70")
        .pool("extract", "450");
    let mut input = "mid".to_owned();
    for n in 1..13 {
        let (job, output) = (format!("job{n:02}"), format!("set{n:02}"));
        shape = shape.stage(&job, &format!("input: {input}"), &output);
        if n % 3 == 0 {
            shape = shape.with(&job, "pools: [shared]");
        }
        input = output;
    }
    shape.build(db).await;
    db.exec(
        "with w as (insert into odf.worker (name) select 'w' || n from generate_series(1, 300) n returning worker_id)
         insert into odf.worker_session (worker_id, key_sha256, host, machine_id, pid, version, protocol, slots, beat_at, started_at)
         select worker_id, '', 'h', 'm', 1, '0', 1, 10000, odf.clock(), odf.clock() from w",
        &[],
    )
    .await;
    assert_eq!(db.count("odf.lane").await, 13);
}

#[tokio::test]
async fn a_large_fleet_with_many_slots_is_served_at_once() {
    let db = TestDb::new().await;
    large_fleet(&db).await;
    // Slot by slot this would be forty million steps, under the locks of all sessions.
    db.exec("set statement_timeout = '20s'", &[]).await;
    db.exec("select odf.allot()", &[]).await;
    let over: Vec<String> = db
        .column(
            "select p.name || ': ' || sum(a.slots) from odf.allotment a join odf.lane_pool m using (lane_id)
               join odf.pool p using (pool_id) group by p.pool_id having sum(a.slots) > odf.pool_limit(p)",
        )
        .await;
    assert_eq!(over, [""; 0], "no limit is exceeded");
    let (extract, shared): (i64, i64) = (
        db.scalar(
            "select sum(slots) from odf.allotment join odf.lane using (lane_id) join odf.job j using (job_id) where j.name = 'extract'",
        )
        .await,
        db.scalar(
            "select sum(a.slots) from odf.allotment a join odf.lane_pool using (lane_id) join odf.pool p using (pool_id) where p.name = 'shared'",
        )
        .await,
    );
    assert_eq!((extract, shared), (450, 70), "and all of each is given");
    let uneven: i32 = db
        .scalar(
            "select max(slots) - min(slots) from odf.allotment join odf.lane using (lane_id) join odf.job j using (job_id) where j.name = 'extract'",
        )
        .await;
    assert_eq!(uneven, 1, "round by round");
    assert_eq!(
        db.scalar::<i32>("select odf.allot()").await,
        0,
        "and it stays so"
    );
}
