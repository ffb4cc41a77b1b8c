//! The example of three stages, run as its page says with the real programs, and broken as it proposes.

use std::path::{Path, PathBuf};

use crate::faults_support::Estate;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/three_stages")
        .join(name)
}

/// The example's databases, scripts and flow.
async fn applied() -> Estate {
    let estate = Estate::new().await;
    let setup = std::fs::read_to_string(example("setup.sql")).unwrap();
    let (shop, warehouse) = setup.split_once("-- warehouse").unwrap();
    estate.source.run(shop).await;
    estate.target.run(warehouse).await;
    for script in ["extract.sh", "transform.sh", "load.sh", "sum.sh"] {
        let from = example("scripts").join(script);
        std::fs::copy(from, estate.path("scripts").join(script)).unwrap();
    }
    let flow = std::fs::read_to_string(example("flow.yaml")).unwrap();
    estate.apply(&flow).await;
    estate
}

#[tokio::test]
async fn it_runs_to_its_end_and_tells_a_broken_file_and_another_environment() {
    let estate = applied().await;
    let coordinator = estate.serve();
    let worker = estate.worker("w1").start();
    estate.until_count("orders_dwh", "validated", 20).await;
    estate.until_count("totals", "complete", 1).await;
    let sums: String = estate
        .target
        .get("select string_agg(status || ' ' || orders || ' ' || amount, ', ' order by status) from totals")
        .await;
    let expected: String = estate
        .source
        .get(
            "select string_agg(upper(left(status, 1)) || ' ' || n || ' ' || a, ', ' order by upper(left(status, 1)))
               from (select status, count(*) n, sum(amount) a from orders group by status) x",
        )
        .await;
    assert_eq!(sums, expected);
    estate.cli(&["approve", "totals"]).await.ok();
    estate.until_count("totals", "validated", 1).await;

    let told = estate.cli(&["explain", "orders_dwh/00007"]).await.ok();
    for part in [
        "ready           yes generation 1 by attempt 1",
        "right data      yes SHA-256",
        "right location  yes clean/00007",
        "validated       yes csv.gz, 250 rows counted",
        "safe            yes",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    let largest: i64 = estate
        .control
        .get("select max(octet_length(evidence))::bigint from odf.publication")
        .await;
    println!("evidence: at most {largest} bytes a publication");
    assert!((50..=200).contains(&largest), "{largest}");

    // A file cut short is not read again: nothing of the loading script runs.
    let file = std::fs::read_dir(estate.path("lake/clean"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("00007."))
        })
        .unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    estate.cli(&["resubmit", "orders_dwh/00007"]).await.ok();
    estate.until_count("orders_dwh", "exhausted", 1).await;
    let told = estate.cli(&["explain", "orders_dwh/00007"]).await.ok();
    assert!(
        told.contains("gate: right data of orders_clean/00007"),
        "{told}"
    );

    // The place says that it is another environment's.
    std::fs::write(&file, &whole).unwrap();
    let mark = estate.path("lake/.odf-environment");
    std::fs::write(&mark, "prod\n").unwrap();
    estate.cli(&["resubmit", "orders_dwh/00007"]).await.ok();
    let refused = "select count(*) = 1 from odf.chunk where name = 'orders_dwh/00007' and status = 'exhausted'
                     and reason like '%environment prod%'";
    estate.until(refused).await;
    std::fs::remove_file(&mark).unwrap();
    estate.cli(&["resubmit", "orders_dwh/00007"]).await.ok();
    estate.until_count("orders_dwh", "validated", 20).await;
    worker.stop().await;
    coordinator.stop().await;
}
