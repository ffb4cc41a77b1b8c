//! `reconcile`: what a target holds now against what its source held at the extract.

use common::store::Settled;
use serde_json::{Value, json};

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, validated};
use crate::migrated::Migrated;

/// The outcome of a chunk in an answer.
fn chunk<'a>(answer: &'a Value, key: &str) -> &'a Value {
    answer["chunks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|chunk| chunk["key"] == key)
        .unwrap_or_else(|| panic!("{key} in {answer:#}"))
}

#[tokio::test]
async fn a_target_is_what_its_source_was_and_a_run_goes_on_where_it_stopped() {
    let migrated = Migrated::new().await;
    let ran = migrated
        .command(&["reconcile", "copy", "--range", "1-4"])
        .await
        .ok();
    assert_eq!(ran, "copy: 4 chunks: 4 equal\n");
    let answer = migrated.json(&["reconcile", "copy"], 0).await;
    assert_eq!(answer["verdicts"], json!({ "equal": 6 }), "{answer:#}");
    assert_eq!(answer["known_equal"], 4);
    let answer = migrated.json(&["reconcile", "copy", "--again"], 0).await;
    assert_eq!(answer["verdicts"], json!({ "equal": 10 }));
    let kept: Vec<String> = migrated
        .site
        .db
        .column(
            "select format('%s %s %s %s %s', verdict, expected_rows = found_rows, expected_sum = found_sum, expected_from, checked_by) \
               from odf.reconciliation order by chunk_id limit 1",
        )
        .await;
    assert_eq!(
        kept,
        ["equal t t test:file/00001 generation 1 odf_test_operator"]
    );
    let audit: i64 = migrated
        .site
        .db
        .count("odf.event where kind = 'reconciled' and actor = 'odf_test_operator' and subject = 'test:copy'")
        .await;
    assert_eq!(audit, 3);
    // Files are what was published, to the byte.
    let ran = migrated.command(&["reconcile", "file"]).await.ok();
    assert_eq!(ran, "file: 10 chunks: 10 equal\n");
}

#[tokio::test]
async fn swapped_lost_doubled_and_changed_rows_are_found_with_their_keys() {
    let migrated = Migrated::new().await;
    migrated
        .sql(
            "delete from dwh.items where id = 150;
             alter table dwh.items drop constraint items_pkey;
             insert into dwh.items select * from dwh.items where id = 250;
             update dwh.items set amount = amount + 0.01 where id = 350;
             update dwh.items set name = '' where id = 413 + 7;
             update dwh.items set id = case id when 510 then 520 else 510 end where id in (510, 520);
             insert into dwh.items (id, name) values (10001, 'later')",
        )
        .await;
    let answer = migrated.json(&["reconcile", "copy"], 5).await;
    assert_eq!(
        answer["verdicts"],
        json!({ "equal": 4, "differs": 6 }),
        "{answer:#}"
    );
    let lost = chunk(&answer, "00002");
    assert_eq!(
        (&lost["expected_rows"], &lost["found_rows"]),
        (&json!(100), &json!(99))
    );
    assert_eq!(lost["keys"]["listed"][0]["key"], json!(["150"]), "{lost:#}");
    assert_eq!(lost["keys"]["listed"][0]["what"], "missing_in_target");
    assert!(
        lost["reason"]
            .as_str()
            .unwrap()
            .contains("the source is as it was at its extract"),
        "{lost:#}"
    );
    let doubled = &chunk(&answer, "00003")["keys"]["listed"][0];
    assert_eq!(doubled["what"], "changed");
    assert_eq!(
        (&doubled["key"], &doubled["target_rows"]),
        (&json!(["250"]), &json!(2))
    );
    assert_eq!(chunk(&answer, "00004")["keys"]["changed"], 1);
    // NULL is not the empty text.
    assert_eq!(
        chunk(&answer, "00005")["keys"]["listed"][0]["key"],
        json!(["420"])
    );
    let swapped = &chunk(&answer, "00006")["keys"];
    assert_eq!(
        (&swapped["changed"], &swapped["missing_in_target"]),
        (&json!(2), &json!(0))
    );
    let extra = &chunk(&answer, "00010")["keys"]["listed"][0];
    assert_eq!(
        (&extra["key"], &extra["what"]),
        (&json!(["10001"]), &json!("only_in_target"))
    );

    // What differs is looked at again; what is equal is not.
    migrated
        .sql("insert into dwh.items select * from public.items where id = 150")
        .await;
    let answer = migrated.json(&["reconcile", "copy"], 5).await;
    assert_eq!(answer["verdicts"], json!({ "equal": 1, "differs": 5 }));
    assert_eq!(answer["known_equal"], 4);
    let shown = migrated.command(&["reconcile", "copy/00003"]).await;
    assert_eq!(shown.code, Some(5));
    assert!(
        shown
            .stdout
            .contains("changed in number  250 (rows: source 1, target 2)"),
        "{shown:?}"
    );
    // The cutoff says what belongs.
    let cut = [
        "reconcile",
        "copy/00010",
        "--cutoff",
        "id <= 1000 -- go-live",
    ];
    let answer = migrated.json(&cut, 0).await;
    assert_eq!(answer["verdicts"], json!({ "equal": 1 }));
    // An equality under a cutoff is none without it.
    let answer = migrated.json(&["reconcile", "copy/00010"], 5).await;
    assert_eq!(answer["verdicts"], json!({ "differs": 1 }));
}

#[tokio::test]
async fn a_source_that_changed_later_is_told_beside_the_verdict() {
    let migrated = Migrated::new().await;
    migrated
        .sql("update public.items set name = 'new' where id = 42; delete from public.items where id = 43")
        .await;
    let answer = migrated.json(&["reconcile", "copy"], 0).await;
    assert_eq!(answer["verdicts"], json!({ "equal": 10 }));
    assert_eq!(answer["changed_since"], 0);
    let answer = migrated.json(&["reconcile", "copy", "--today"], 0).await;
    assert_eq!(answer["verdicts"], json!({ "equal": 10 }));
    assert_eq!(answer["changed_since"], 1);
    let first = chunk(&answer, "00001");
    assert_eq!(
        (&first["found_rows"], &first["today_rows"]),
        (&json!(100), &json!(99))
    );
    assert_eq!(
        (&first["keys"]["changed"], &first["keys"]["only_in_target"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(first["reason"], "the source has changed since its extract");
    let shown = migrated
        .command(&["reconcile", "copy", "--today", "--again"])
        .await
        .ok();
    for part in [
        "1 changed in the source since",
        "SOURCE TODAY",
        "only in target     43",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test]
async fn without_sums_rows_are_compared_and_said_to_be_all() {
    let migrated = Migrated::planned().await;
    migrated.carry(false).await;
    let shown = migrated.command(&["reconcile", "copy"]).await.ok();
    assert!(
        shown.starts_with("copy: 10 chunks: 10 with equal rows (no sum is kept)"),
        "{shown}"
    );
    migrated.sql("delete from dwh.items where id = 5").await;
    let answer = migrated.json(&["reconcile", "copy/00001"], 5).await;
    assert_eq!(chunk(&answer, "00001")["verdict"], "differs");
}

#[tokio::test]
async fn columns_by_place_and_the_zone_of_the_extract_count() {
    let mut migrated = Migrated::planned().await;
    migrated.by_place = true;
    migrated.carry(true).await;
    // Summed under places and compared under names: nothing is taken for equal by luck.
    let answer = migrated.json(&["reconcile", "copy/00001"], 5).await;
    assert_eq!(answer["verdicts"], json!({ "differs": 1 }));
    migrated
        .sql("update odf.data_set set spec = spec || '{\"format\": {\"shape\": \"csv\", \"csv\": {\"header\": false}}}' where name = 'file'")
        .await;
    let answer = migrated
        .json(&["reconcile", "copy", "--concurrency", "4"], 0)
        .await;
    assert_eq!(answer["verdicts"], json!({ "equal": 10 }));
    let berlin = [
        "reconcile",
        "copy/00001",
        "--again",
        "--timezone",
        "Europe/Berlin",
    ];
    let answer = migrated.json(&berlin, 5).await;
    let first = chunk(&answer, "00001");
    assert_eq!(first["verdict"], "differs");
    // Both sides print alike, so no key does.
    assert_eq!(first["keys"]["changed"], 0);
    let shown = migrated.command(&["explain", "copy/00001"]).await.ok();
    assert!(
        shown.contains(
            "  compared  DIFFERENT from its source at the extract (test:file/00001 generation 1), "
        ),
        "{shown}"
    );
    let shown = migrated.command(&["explain", "copy/00002"]).await.ok();
    assert!(
        shown.contains("  compared  equal to its source at the extract"),
        "{shown}"
    );
}

#[tokio::test]
async fn what_cannot_be_told_is_unknown_and_never_equal() {
    let migrated = Migrated::planned().await;
    let answer = migrated.json(&["reconcile", "copy"], 5).await;
    assert_eq!(answer["verdicts"], json!({ "unknown": 10 }));
    assert_eq!(chunk(&answer, "00001")["reason"], "it is not published yet");
    migrated.carry(true).await;
    // A chunk that is being made again is not judged.
    migrated.command(&["resubmit", "copy/00001"]).await.ok();
    let again = migrated.worker.claim_one().await;
    let answer = migrated
        .json(&["reconcile", "copy", "--range", "1-2"], 5)
        .await;
    assert_eq!(
        chunk(&answer, "00001")["reason"],
        "attempt 2 is making it again"
    );
    migrated.worker.complete(std::slice::from_ref(&again)).await;

    let wrong = [
        "reconcile",
        "copy/00002",
        "--again",
        "--cutoff",
        "nosuch > 1",
    ];
    let answer = migrated.json(&wrong, 5).await;
    let reason = chunk(&answer, "00002")["reason"].as_str().unwrap();
    assert!(reason.contains("nosuch"), "{reason}");
    // Nothing can be written through a cutoff.
    migrated.sql("create sequence public.once").await;
    let wrong = [
        "reconcile",
        "copy/00002",
        "--again",
        "--cutoff",
        "nextval('public.once') > 0",
    ];
    let answer = migrated.json(&wrong, 5).await;
    let reason = chunk(&answer, "00002")["reason"].as_str().unwrap();
    assert!(reason.contains("read-only"), "{reason}");
    let said = migrated
        .site
        .command(&["reconcile", "copy"])
        .await
        .env("SRC_URL", "postgres://ann:sesame@127.0.0.1:1/x")
        .run()
        .await
        .failed(1);
    assert!(
        said.contains("127.0.0.1:1") && !said.contains("sesame"),
        "{said}"
    );
    let said = migrated.command(&["reconcile", "items"]).await.failed(4);
    assert!(said.contains("is a source"), "{said}");
    migrated.command(&["reconcile", "nosuch"]).await.failed(3);
    migrated
        .command(&["reconcile", "copy", "file"])
        .await
        .failed(2);
    std::fs::remove_dir_all(migrated.site.path().join("lake")).unwrap();
    let answer = migrated.json(&["reconcile", "file/00001"], 5).await;
    let reason = chunk(&answer, "00001")["reason"].as_str().unwrap();
    assert!(reason.contains("not on this host"), "{reason}");
}

#[tokio::test]
async fn only_what_speaks_of_the_published_generation_is_kept() {
    let db = TestDb::new().await;
    let flow = Shape::chain(2).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    let item = worker.claim_one().await;
    assert_eq!(
        worker.settle(&item, validated(&item)).await,
        Settled::Applied
    );
    let set = flow.set_id(&db, "mid").await;
    let other = flow.set_id(&db, "dst").await;
    let row = |generation: i32, verdict: &str, sum: &str| {
        json!([{ "chunk_id": item.chunk_id.0, "generation": generation, "verdict": verdict, "expected_sum": sum,
                 "found_sum": "1", "expected_rows": 3, "found_rows": 3, "reason": "because" }])
    };
    let record = "select odf.record_reconciliation($1, $2, $3)";
    let none: Option<&str> = None;
    let operator = db.login(Role::Operator).await;
    let kept = async |set: i32, rows: Value| -> i64 {
        operator
            .query_one(record, &[&set, &rows, &none])
            .await
            .unwrap()
            .get(0)
    };
    assert_eq!(kept(set, row(1, "equal", "1")).await, 1);
    assert_eq!(
        kept(set, row(2, "equal", "1")).await,
        0,
        "a generation that is not published"
    );
    assert_eq!(
        kept(other, row(1, "equal", "1")).await,
        0,
        "another data set's chunk"
    );
    assert_eq!(kept(set, row(1, "differs", "2")).await, 1);
    assert_eq!(
        db.count("odf.reconciliation where verdict = 'differs'")
            .await,
        1
    );
    // Equal with different figures is no answer anybody may give.
    let refused = operator
        .query_one(record, &[&set, &row(1, "equal", "2"), &none])
        .await;
    assert!(refused.is_err());
    let viewer = db.login(Role::Viewer).await;
    let refused = viewer
        .query_one(record, &[&set, &row(1, "equal", "1"), &none])
        .await;
    assert!(refused.is_err());
    operator
        .batch_execute("begin isolation level repeatable read")
        .await
        .unwrap();
    let refused = operator
        .query_one(record, &[&set, &row(1, "equal", "1"), &none])
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "OD002", "{refused}");
}
