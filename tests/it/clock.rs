//! Time: one clock, the database's, and months of it in seconds.

use std::time::Duration;

use common::domain::FailureClass;

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed};

#[tokio::test]
async fn only_a_harness_may_move_the_clock() {
    let db = TestDb::new().await;
    db.exec(
        "update odf.installation set clock_movable = false, clock_offset = '0'",
        &[],
    )
    .await;
    for sql in [
        "select odf.move_clock('1 hour')",
        "update odf.installation set clock_offset = '1 hour'",
    ] {
        assert!(db.admin().execute(sql, &[]).await.is_err(), "{sql}");
    }
    let ahead: f64 = db
        .scalar("select extract(epoch from odf.clock() - clock_timestamp())::float8")
        .await;
    assert!(ahead.abs() < 1.0);
}

#[tokio::test]
async fn no_caller_brings_a_time_of_its_own() {
    let db = TestDb::new().await;
    let callable: Vec<String> = db
        .column(
            "select p.oid::regprocedure::text from pg_proc p, unnest(p.proargtypes) t
              where p.pronamespace = 'odf'::regnamespace and format_type(t, null) ~ '(time|date)'
                and has_function_privilege('odf_worker', p.oid, 'execute')",
        )
        .await;
    assert_eq!(callable, [""; 0]);
    // Nor does any of our functions read another clock to decide, but for leadership (also asked by a
    // beat) and for the length of a pass.
    let readers: Vec<String> = db
        .column(
            "select proname::text from pg_proc where pronamespace = 'odf'::regnamespace
                and prosrc ~* '(now\\(\\)|current_timestamp|clock_timestamp|localtimestamp|transaction_timestamp)'
              order by 1",
        )
        .await;
    assert_eq!(
        readers,
        [
            "beat",
            "clock",
            "lead",
            "note_stale_whole",
            "promote",
            "prove_term",
            "release_new_plans",
            "replan_now"
        ]
    );
}

#[tokio::test]
async fn odd_settings_of_a_login_change_nothing() {
    let db = TestDb::new().await;
    Shape::chain(4).build(&db).await;
    let options = "-c timezone=Asia/Kathmandu -c datestyle=SQL,DMY -c intervalstyle=sql_standard -c bytea_output=escape \
                   -c search_path=pg_temp -c transform_null_equals=on -c array_nulls=off -c enable_indexscan=off \
                   -c plan_cache_mode=force_custom_plan -c row_security=off -c xmloption=document -c extra_float_digits=-15 \
                   -c standard_conforming_strings=off -c backslash_quote=off -c quote_all_identifiers=on -c work_mem=64kB";
    let encoded = options
        .replace(' ', "%20")
        .replace(',', "%2C")
        .replace('=', "%3D");
    let url = format!("{}&options={encoded}", db.url(Role::Worker));
    let control = common::store::ControlDb::new(url.into(), 2, "odf-it").unwrap();
    let worker = TestWorker::start_on(&control, "odd", 2).await;
    let item = worker.claim_one().await;
    let _ = worker.settle(&item, failed(FailureClass::Transient)).await;
    let wait: f64 = db
        .scalar("select extract(epoch from retry_at - odf.clock())::float8 from odf.chunk where status = 'failed'")
        .await;
    assert!((-5.0..=10.0).contains(&wait), "{wait}");
    db.advance(Duration::from_secs(11)).await;
    TestLeader::start(&db).await.passes().await;
    assert_eq!(worker.drain(2).await, 8);
}

#[tokio::test]
async fn a_year_passes_in_every_zone() {
    let db = TestDb::new().await;
    Shape::single(1)
        .with(
            "extract",
            "retry: { attempts: 100, backoff: 1s, max_backoff: 1s }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let term = leader.proof.term();
    let zones = [
        "UTC",
        "America/Chicago",
        "Europe/Berlin",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        "Asia/Kathmandu",
    ];
    // Weeks that begin at other hours in each zone, both changes of summer time among them.
    for week in 0..60 {
        let zone = zones[week % zones.len()];
        let admin = db.another_admin().await;
        admin
            .batch_execute(&format!("set timezone = '{zone}'"))
            .await
            .unwrap();
        admin.query("select odf.prune($1)", &[&term]).await.unwrap();
        admin.close().await;
        if week % 10 == 0 {
            leader.passes().await;
            let worker = TestWorker::start(&db, &format!("w{week}"), 1).await;
            let item = worker.claim_one().await;
            let _ = worker.settle(&item, failed(FailureClass::Transient)).await;
            worker.session.end("over").await.unwrap();
        }
        db.advance(Duration::from_secs(6 * 86_400 + 3 * 3600)).await;
    }
    // Ninety days are kept, four weeks are made ahead, nothing lies in the default partition for long.
    let weeks: i64 = db
        .count("pg_class where relname ~ '^attempt_[0-9]{8}$'")
        .await;
    assert!((14..=20).contains(&weeks), "{weeks} weeks");
    let kept: Vec<i64> = db
        .column(
            "select count(*) from odf.attempt union all select count(*) from odf.attempt_default",
        )
        .await;
    assert!(kept[0] >= 1 && kept[0] <= 3, "{kept:?}");
    assert_eq!(
        db.count("odf.chunk_state where attempt_no = 6").await,
        1,
        "what decides is kept"
    );
}
