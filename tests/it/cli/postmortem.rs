//! `postmortem`: an outage told from what was kept of it.

use std::time::Duration;

use common::domain::{AttemptResult, Evidence, FailureClass, InputEvidence, Outcome};
use coordinator::cli::Exit;

use super::support::{end, ok, run};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker};

fn failed(class: FailureClass, error: &str) -> AttemptResult {
    AttemptResult::bare(Outcome::Failed {
        class,
        error: error.to_owned(),
    })
}

#[tokio::test]
async fn an_outage_is_told_with_its_causes_actions_and_end() {
    let db = TestDb::new().await;
    Shape::chain(4)
        .with(
            "extract",
            "retry: { attempts: 9, backoff: 1h, max_backoff: 2h }",
        )
        .build(&db)
        .await;
    let leader = TestLeader::start(&db).await;
    let worker = TestWorker::start(&db, "w1", 4).await;
    leader.passes().await;
    let items = worker.claim(4).await;
    for (n, item) in items[..3].iter().enumerate() {
        let error = format!("connect to 10.0.0.{n}:5432: no route to host");
        end(&worker, item, failed(FailureClass::Transient, &error)).await;
    }
    let mut refused = failed(
        FailureClass::Gate,
        "gate: right location of src/00004: gone",
    );
    refused.evidence = Some(
        Evidence {
            ms: 3,
            inputs: vec![InputEvidence {
                how: "src pin !stat".into(),
                n: 1,
                ..InputEvidence::default()
            }],
        }
        .encode(),
    );
    end(&worker, &items[3], refused).await;
    ok(&db, "pause extract --reason network").await;
    ok(&db, "resume extract").await;
    db.advance(Duration::from_hours(3)).await;
    leader.passes().await;
    worker.drain(4).await;
    let ran = run(&db, Role::Viewer, "postmortem --from 1d").await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let text = &ran.out;
    for part in [
        "4 attempts ended without being published, of 4 chunks, for 2 causes; 3 of them counted",
        "4 of the 4 were published and validated; none is left.",
        "| 3 | 3 | transient | connect to N.N.N.N:N: no route to host | host-of-w1 |",
        "| 1 | 1 | gate | gate: right location of src/N: gone |",
        "| mid | 4 | 4 validated |",
        "| right location | 1 |",
        "## What people did",
        "paused (odf_test_operator) extract: network",
        "worker.registered",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let json = run(&db, Role::Viewer, "postmortem --from 1d -o json")
        .await
        .json();
    assert_eq!(json["causes"][0]["attempts"], 3);
    assert_eq!(json["affected"]["mid"]["now"]["validated"], 4);
}

#[tokio::test]
async fn a_quiet_time_and_a_wrong_one_are_said() {
    let db = TestDb::new().await;
    let quiet = run(&db, Role::Viewer, "postmortem --from 1h").await;
    assert!(
        quiet
            .out
            .contains("Every attempt that ended in this time was published."),
        "{}",
        quiet.out
    );
    let wrong = run(&db, Role::Viewer, "postmortem --from 1h --to 2h").await;
    assert_eq!(wrong.exit, Exit::Usage);
    assert!(
        wrong.err.contains("a beginning before the end"),
        "{}",
        wrong.err
    );
}
