//! Floors: claims start behind what is used up, and no row is ever passed over for it.

use std::time::Duration;

use crate::harness::{Shape, TestDb, TestLeader, TestWorker, eventually};

/// Five minutes of floor passes, a probe every thirty seconds.
async fn five_minutes(db: &TestDb, leader: &TestLeader) {
    for _ in 0..10 {
        leader.proof.move_floors().await.unwrap();
        db.advance(Duration::from_secs(30)).await;
    }
    leader.proof.move_floors().await.unwrap();
}

/// Waits until the floor is exactly there. Transactions of other databases of the server hold floors
/// back as well, and other tests have some.
async fn moves_to(db: &TestDb, leader: &TestLeader, lane: i32, seq: i64, what: &str) {
    eventually(what, async || {
        five_minutes(db, leader).await;
        let floor: i64 = db
            .get(
                "select floor_seq from odf.lane where lane_id = $1",
                &[&lane],
            )
            .await;
        assert!(floor <= seq, "{what}: floor {floor} is above {seq}");
        (floor == seq).then_some(())
    })
    .await;
}

#[tokio::test]
async fn floors_follow_what_is_used_up() {
    let db = TestDb::new().await;
    let flow = Shape::single(50).build(&db).await;
    let lane = flow.lane(&db, "extract").await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 40).await;
    let floor = async || -> i64 {
        db.get(
            "select floor_seq from odf.lane where lane_id = $1",
            &[&lane],
        )
        .await
    };
    let items = worker.claim(40).await;
    worker.complete(&items).await;
    leader.proof.move_floors().await.unwrap();
    assert_eq!(floor().await, 0, "one probe moves nothing");
    let lowest: i64 = db.scalar("select min(seq) from odf.ready").await;
    moves_to(&db, &leader, lane, lowest, "the first row that is left").await;
    worker.drain(40).await;
    let last: i64 = db.scalar("select last_value from odf.ready_seq").await;
    moves_to(&db, &leader, lane, last, "the end of an empty lane").await;
    // Retries and resubmits draw new numbers, so they are found.
    db.exec(
        "update odf.chunk set status = 'resubmit' where dataset = 'mid'",
        &[],
    )
    .await;
    worker.beat().await;
    assert_eq!(worker.drain(40).await, 50);
    assert_eq!(leader.proof.look_below_floors().await.unwrap(), 0);
    assert_eq!(db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn an_insert_that_is_still_open_is_never_passed() {
    open_insert(TestDb::new().await).await;
}

/// Rows that a transaction holds back, with the floor passing by meanwhile.
pub(crate) async fn open_insert(db: TestDb) {
    let flow = Shape::single(40).build(&db).await;
    let lane = flow.lane(&db, "extract").await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 40).await;
    let mids = flow.chunks(&db, "mid").await;
    // The first ten are set aside, then queued again by a transaction that stays open.
    let sql = "update odf.chunk set status = 'held' where dataset = 'mid' and ordinal <= 10";
    db.exec(sql, &[]).await;
    let mut slow = db.another_admin().await;
    let open = slow.transaction().await.unwrap();
    open.execute(
        "update odf.chunk set status = 'resubmit' where dataset = 'mid' and ordinal <= 10",
        &[],
    )
    .await
    .unwrap();
    // Later rows come and go meanwhile.
    for _ in 0..3 {
        worker.drain(7).await;
        five_minutes(&db, &leader).await;
        let sql = format!(
            "update odf.chunk set status = 'resubmit' where chunk_id = any(array[{}, {}])",
            mids[20], mids[21]
        );
        db.exec(&sql, &[]).await;
    }
    worker.drain(7).await;
    five_minutes(&db, &leader).await;
    let drawn: i64 = open
        .query_one("select min(seq) from odf.ready r where r.seq > 40", &[])
        .await
        .unwrap()
        .get(0);
    let floor: i64 = db
        .get(
            "select floor_seq from odf.lane where lane_id = $1",
            &[&lane],
        )
        .await;
    assert!(
        floor <= drawn,
        "floor {floor} is above row {drawn}, which is not committed"
    );
    open.commit().await.unwrap();
    assert_eq!(worker.drain(40).await, 10, "what was open runs at once");
    assert_eq!(leader.proof.look_below_floors().await.unwrap(), 0);
    let last: i64 = db.scalar("select last_value from odf.ready_seq").await;
    assert!(last > drawn);
    moves_to(&db, &leader, lane, last, "the end, with nothing open").await;
}

#[tokio::test]
async fn a_row_below_a_floor_is_found_and_counted() {
    let db = TestDb::new().await;
    let flow = Shape::single(3).build(&db).await;
    let lane = flow.lane(&db, "extract").await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 3).await;
    db.exec(
        "update odf.lane set floor_seq = 1000 where lane_id = $1",
        &[&lane],
    )
    .await;
    assert_eq!(worker.claim(3).await.len(), 0);
    assert_eq!(leader.proof.look_below_floors().await.unwrap(), 1);
    assert_eq!(worker.claim(3).await.len(), 3);
    assert_eq!(db.bugs().await.len(), 1);
    assert!(db.bugs().await[0].starts_with("row_below_floor"));
}

#[tokio::test]
async fn stranded_chunks_are_found_and_counted() {
    let db = TestDb::new().await;
    Shape::single(5).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 5).await;
    worker.claim(2).await;
    db.exec(
        "delete from odf.ready where seq in (select seq from odf.ready order by seq limit 2)",
        &[],
    )
    .await;
    assert_eq!(
        leader
            .proof
            .find_stranded(Duration::from_secs(300))
            .await
            .unwrap(),
        0,
        "not at once"
    );
    db.advance(Duration::from_secs(301)).await;
    assert_eq!(
        leader
            .proof
            .find_stranded(Duration::from_secs(300))
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        leader
            .proof
            .find_stranded(Duration::from_secs(300))
            .await
            .unwrap(),
        0
    );
    assert_eq!(worker.claim(5).await.len(), 3);
    assert!(db.bugs().await[0].starts_with("stranded_chunk"));
}
