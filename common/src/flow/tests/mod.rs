//! Whole flow files through the front door.

mod graph;
mod rules;
mod shown;
mod text;
mod validation;
mod windows;

use super::model::*;
use super::parse_flow;

/// The example of the documentation, every kind of thing in it.
pub(super) const WAREHOUSE: &str = r#"
flow: warehouse
environment: prod
connections:
  erp:  { kind: postgres, url: "${secret:ERP_URL}", environment: prod }
  lake: { kind: files, root: /data/lake, min_free: 10GB }
  dwh:  { kind: postgres, url: "postgres://loader:${secret:DWH_PASSWORD}@dwh:5432/dwh" }
  api:  { kind: other, settings: { token: "${secret:API_TOKEN}", page_size: 500 } }
pools:
  extract: { limit: 10 }
  erp:     { limit: none }
datasets:
  orders:      { at: { connection: erp, table: public.orders }, partition: { key: order_id, chunks: 10000 } }
  orders_file: { at: { connection: lake, path: "orders/{chunk}.{fence}.csv" }, buffer: { chunks: 200, bytes: 2TB }, keep: until_consumed }
  orders_dwh:  { at: { connection: dwh, table: stage.orders } }
  summary:     { at: { connection: lake, path: "summary.csv" }, keep: 7d }
jobs:
  extract:
    input: orders
    output: orders_file
    run: { script: extract.sh, args: [--limit, 10], env: { MODE: fast } }
    pools: [extract, erp]
    retry: { attempts: 5, backoff: 10s, max_backoff: 10m }
    timeout: 2h
    silence: 25s
    kill_grace: 10s
    priority: 0
    labels: [big]
    connections: [api]
    approve: false
  load: { input: orders_file, output: orders_dwh, run: { script: load.sh } }
  summarise: { input: [{ dataset: orders_dwh, chunks: all, accept: unvalidated }], output: summary, run: { script: sum.sh }, approve: true }
"#;

#[test]
fn the_example_becomes_a_model_with_every_default_filled_in() {
    let parsed = parse_flow(WAREHOUSE, "warehouse.yaml").unwrap();
    assert_eq!(parsed.warnings, []);
    let flow = parsed.flow;
    assert_eq!(flow.name, "warehouse");
    assert_eq!(
        flow.connections["lake"].environment.as_deref(),
        Some("prod")
    );
    let names: Vec<(&str, Option<u32>)> = flow
        .pools
        .iter()
        .map(|(name, pool)| (name.as_str(), pool.limit))
        .collect();
    let pools = [
        ("erp", None),
        ("extract", Some(10)),
        ("load", None),
        ("summarise", None),
    ];
    assert_eq!(names, pools, "each job has a pool of its own name");
    let extract = &flow.jobs["extract"];
    assert_eq!(
        extract.pools,
        ["erp"],
        "the pool of its own name is implied"
    );
    assert_eq!(extract.timeout_seconds, Some(7200));
    let Run::Script { args, .. } = &extract.run;
    assert_eq!(args, &["--limit", "10"]);
    let load = &flow.jobs["load"];
    assert_eq!((load.silence_seconds, load.kill_grace_seconds), (25, 10));
    assert_eq!(load.retry, Retry::default());
    assert_eq!(flow.jobs["summarise"].inputs[0].mapping, Mapping::All);
    assert_eq!(
        flow.datasets["orders_file"].partition, None,
        "it has the chunks of its input"
    );
    assert_eq!(flow.datasets["summary"].partition, Some(Partition::Single));
    assert_eq!(flow.datasets["summary"].keep, Keep::Seconds(604_800));
    let key = Partition::Key {
        columns: vec!["order_id".into()],
        size: ChunkSize::Chunks(10_000),
    };
    assert_eq!(flow.datasets["orders"].partition, Some(key));
    let buffer = Buffer {
        chunks: Some(200),
        bytes: Some(2_000_000_000_000),
    };
    assert_eq!(flow.datasets["orders_file"].buffer, buffer);
    assert_eq!(parsed.digest_sha256.len(), 64);
}

#[test]
fn the_model_survives_the_database() {
    let flow = parse_flow(WAREHOUSE, "warehouse.yaml").unwrap().flow;
    let json = serde_json::to_string(&flow).unwrap();
    assert_eq!(serde_json::from_str::<Flow>(&json).unwrap(), flow);
}
