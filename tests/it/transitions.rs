//! One transition table: the same in Rust and in SQL, and the states' columns tied to them.

use std::collections::BTreeSet;

use common::domain::ChunkStatus;

use crate::harness::TestDb;

#[tokio::test]
async fn the_enum_has_the_same_words_in_the_same_order() {
    let db = TestDb::new().await;
    let sql: Vec<String> = db
        .column("select enumlabel::text from pg_enum where enumtypid = 'odf.chunk_status'::regtype order by enumsortorder")
        .await;
    let rust: Vec<&str> = ChunkStatus::ALL
        .iter()
        .map(|status| status.word())
        .collect();
    assert_eq!(sql, rust);
    for word in sql {
        let status = ChunkStatus::from_word(&word).unwrap();
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            serde_json::json!(word)
        );
    }
}

#[tokio::test]
async fn the_pairs_are_the_same() {
    let db = TestDb::new().await;
    let rows = db
        .admin()
        .query(
            "select old_status::text, new_status::text from odf.chunk_transition",
            &[],
        )
        .await
        .unwrap();
    let sql: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let rust: BTreeSet<(String, String)> = ChunkStatus::ALL
        .iter()
        .flat_map(|old| {
            old.successors()
                .iter()
                .map(|new| (old.word().to_owned(), new.word().to_owned()))
        })
        .collect();
    assert_eq!(sql, rust);
    assert!(sql.len() > 30);
}

#[tokio::test]
async fn what_is_derived_is_never_stored_and_columns_go_with_states() {
    let db = TestDb::new().await;
    let store = async |status: &str, columns: &str, values: &str| {
        db.admin()
            .execute(
                &format!(
                    "insert into odf.chunk_state (chunk_id, data_set_id, status, changed_at{columns}) \
                     values ((random() * 1e15)::bigint, 1, '{status}', now(){values})"
                ),
                &[],
            )
            .await
            .is_ok()
    };
    for status in ChunkStatus::ALL.map(ChunkStatus::word) {
        let plain = matches!(status, "waiting" | "ready" | "split");
        assert_eq!(store(status, "", "").await, plain, "{status}");
        assert_eq!(
            store(status, ", generation", ", 1").await,
            plain || matches!(status, "validated" | "complete"),
            "{status}"
        );
        let with_reason = plain || matches!(status, "held" | "cancelled" | "exhausted");
        assert_eq!(
            store(status, ", reason", ", 'x'").await,
            with_reason,
            "{status}"
        );
        assert_eq!(
            store(status, ", reason, retry_at", ", 'x', now()").await,
            status == "failed",
            "{status}"
        );
        for negative in ["generation", "attempt_no", "charged", "lost"] {
            assert!(
                !store(status, &format!(", reason, {negative}"), ", 'x', -1").await,
                "{status} {negative}"
            );
        }
    }
}
