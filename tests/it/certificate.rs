//! `certify`: the document says that a migration is whole only where everything holds.

use serde_json::{Value, json};

use crate::migrated::Migrated;

/// Runs `certify copy` and answers what it said and both documents.
async fn certify(migrated: &Migrated, more: &[&str], code: i32) -> (Value, Value, String) {
    let out = migrated.site.path().join("out");
    let mut words = vec!["certify", "copy", "--out", out.to_str().unwrap()];
    words.extend(more);
    let said = migrated.json(&words, code).await;
    let json = std::fs::read(out.join("copy.certificate.json")).unwrap();
    let html = std::fs::read_to_string(out.join("copy.certificate.html")).unwrap();
    let sum: String = migrated
        .site
        .db
        .get("select encode(sha256($1), 'hex')", &[&json])
        .await;
    assert_eq!(said["sha256"], json!(sum));
    assert!(html.contains(&sum));
    demand_sound(&html);
    (said, serde_json::from_slice(&json).unwrap(), html)
}

/// Every tag is closed where it must be, nothing is fetched and nothing runs.
fn demand_sound(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let (_, body) = html.split_once("</style>").unwrap();
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("<{part}"));
        assert!(!text.contains('>'), "a bare > in {part}");
        let name = tag.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some("head" | "html") => {}
            Some(name) => assert_eq!(open.pop(), Some(name), "{part}"),
            None => open.push(name),
        }
    }
    assert!(open == ["body"] || open.is_empty(), "{open:?}");
    for word in ["<script", "http://", "https://", "src=", "href=", "url("] {
        assert!(!html.contains(word), "{word}");
    }
}

fn reasons(said: &Value) -> String {
    said["reasons"].to_string()
}

#[tokio::test]
async fn what_holds_is_certified_and_what_was_never_compared_is_not() {
    let migrated = Migrated::new().await;
    let (said, document, html) = certify(&migrated, &[], 5).await;
    assert_eq!(document["certified"], false);
    assert!(
        reasons(&said).contains("10 chunks were not compared with their source"),
        "{said:#}"
    );
    assert!(
        reasons(&said).contains("10 chunks of copy were published unvalidated"),
        "{said:#}"
    );
    assert!(html.contains("NOT CERTIFIED"));
    assert_eq!(document["exceptions"].as_array().unwrap().len(), 10);

    migrated
        .json(
            &[
                "reconcile",
                "copy",
                "--cutoff",
                "id < 1000000 and name <> '</td>'  or true",
            ],
            0,
        )
        .await;
    let (said, document, html) = certify(&migrated, &[], 0).await;
    assert_eq!(said["reasons"], json!([]), "{said:#}");
    assert!(html.contains("<strong>CERTIFIED"), "{html}");
    assert!(
        html.contains("id &lt; 1000000 and name &lt;&gt; &#39;&lt;/td&gt;&#39;"),
        "{html}"
    );
    let way: Vec<&str> = document["way"]
        .as_array()
        .unwrap()
        .iter()
        .map(|station| station["dataset"].as_str().unwrap())
        .collect();
    assert_eq!(way, ["items", "file", "copy"]);
    let target = &document["way"][2];
    assert_eq!(target["sealed_digest"], target["computed_digest"]);
    assert_eq!(document["tiling"][0]["report"]["covered_once"], 1000);
    let found = &document["reconciliation"];
    assert_eq!(
        (
            &found["equal"],
            &found["expected_rows"],
            &found["found_rows"],
            &found["checked_by"]
        ),
        (
            &json!(10),
            &json!(1000),
            &json!(1000),
            &json!(["odf_test_operator"])
        )
    );
    assert_eq!(document["chunks"].as_array().unwrap().len(), 10);
    assert!(document["made_at"].is_string() && document["installation"].is_string());
    let shown = migrated.command(&["certify", "items"]).await.failed(4);
    assert!(shown.contains("is a source"), "{shown}");
}

#[tokio::test]
async fn what_does_not_hold_is_told_with_its_chunks() {
    let migrated = Migrated::new().await;
    migrated
        .sql("delete from dwh.items where id = 150; insert into public.items (id) values (-5)")
        .await;
    migrated.json(&["reconcile", "copy"], 5).await;
    // A chunk that was made again after it was compared: that generation was not.
    migrated
        .command(&["resubmit", "file/00009", "--status", "validated"])
        .await
        .ok();
    let again = migrated.worker.claim_one().await;
    migrated.worker.complete(std::slice::from_ref(&again)).await;
    let (said, document, html) = certify(&migrated, &[], 5).await;
    for part in [
        "1 chunks differ from their source at the extract",
        "1 chunks of copy are stale",
        "1 chunks of file were published unvalidated",
    ] {
        assert!(reasons(&said).contains(part), "{part}: {said:#}");
    }
    let exceptions = document["exceptions"].as_array().unwrap();
    let lost = exceptions
        .iter()
        .find(|exception| exception["chunk"] == "copy/00002")
        .unwrap();
    assert_eq!(lost["keys"]["listed"][0]["key"], json!(["150"]));
    assert!(html.contains("150 missing in target"), "{html}");
    assert!(html.contains("which is at generation 2"), "{html}");
    // Rows that came later lie in the open first chunk: the plan tiles the source still.
    assert_eq!(document["tiling"][0]["report"]["rows"], 1001);

    let bounds = "update odf.data_chunk set bounds = jsonb_set(bounds, '{upper}', '[\"251\"]') \
                   where ordinal = 3 and data_set_id = (select data_set_id from odf.data_set where name = 'items')";
    assert_eq!(migrated.site.db.exec(bounds, &[]).await, 1);
    let (said, ..) = certify(&migrated, &[], 5).await;
    for part in [
        "the chunks of items are not those of its sealed plan",
        "the plan does not tile items as it is now",
    ] {
        assert!(reasons(&said).contains(part), "{part}: {said:#}");
    }
    let (said, document, _) = certify(&migrated, &["--no-source"], 5).await;
    assert!(!reasons(&said).contains("does not tile"), "{said:#}");
    assert_eq!(
        document["tiling"][0]["not_checked"],
        "left out by --no-source"
    );
}

#[tokio::test]
async fn rows_alone_are_enough_only_where_that_is_said() {
    let migrated = Migrated::planned().await;
    migrated.carry(false).await;
    migrated.json(&["reconcile", "copy"], 0).await;
    // Somebody vouches for the content by a rule.
    let rules = "update odf.publication set validation = '{\"rules\": [{\"rule\": \"row_count\", \"ok\": true, \"found\": \"100\"}]}'";
    migrated.sql(rules).await;
    let (said, document, _) = certify(&migrated, &[], 5).await;
    assert!(
        reasons(&said).contains("of 10 chunks rows alone were compared"),
        "{said:#}"
    );
    assert_eq!(document["way"][1]["rules"][0]["held"], 10);
    let (said, document, html) = certify(&migrated, &["--accept-rows"], 0).await;
    assert!(said["notes"].to_string().contains("rows alone"), "{said:#}");
    assert_eq!(document["accepts_rows"], true);
    assert!(html.contains("row_count"));
    // A rule that failed and did not stop the publication is told, and is no secret.
    migrated.sql(&rules.replace("true", "false")).await;
    let (said, _, html) = certify(&migrated, &["--accept-rows"], 0).await;
    assert!(
        said["notes"]
            .to_string()
            .contains("a rule of severity warn had failed"),
        "{said:#}"
    );
    assert!(
        html.contains("published though a rule had failed: row_count = 100"),
        "{html}"
    );
}
