//! A finished migration to compare: a real table, cut by the real coordinator, extracted with the
//! figures of its own snapshot and loaded into another table.
//!
//! The figures are computed from COPY's text format, not by the code under test.

use common::domain::{AttemptResult, Outcome, OutputReport, Validation, WorkItem};
use common::endpoint::sql_predicate;
use common::policy::row_sum::RowSum;
use common::store::Settled;
use futures_util::TryStreamExt as _;
use serde_json::Value;

use crate::coordinator_support::Site;
use crate::harness::{Ran, TestDb, TestLeader, TestWorker, eventually};

/// The one table that is moved, with values that print in many ways.
const ITEMS: &str = "
create schema dwh;
create type public.mood as enum ('so so', 'fine');
create type public.pair as (a int, b text);
create table public.items (
  id bigint primary key, name text, at timestamptz, day date, amount numeric(12,2), price float8, ok boolean,
  tags text[], raw bytea, mood public.mood, pair public.pair, wait interval, doc jsonb);
insert into public.items
select n, case when n % 7 = 0 then null when n % 11 = 0 then '' else E'it''s \"n\" \\\\ \\t' || n end,
       timestamptz '2026-03-29 00:30:00+00' + n * interval '7 min 1.5 s', date '2024-02-28' + n::int, n / 3.0, n / 7.0::float8, n % 2 = 0,
       array[n::text, null, 'a,b'], decode(md5(n::text), 'hex'), 'so so',
       case when n % 5 = 0 then row(null, null)::public.pair when n % 5 = 1 then null else row(n, 'x')::public.pair end,
       n * interval '1 day 2 h', jsonb_build_object('n', n)
  from generate_series(1, 1000) n;
create table dwh.items (like public.items including all)";

/// The migration.
pub(crate) struct Migrated {
    /// Its database, which is source and target as well, and its folder.
    pub(crate) site: Site,
    /// The worker that carried it.
    pub(crate) worker: TestWorker,
    /// Whether the extracts name columns by their places, as a csv without a header line.
    pub(crate) by_place: bool,
}

impl Migrated {
    /// A table of 1,000 rows in 10 chunks, extracted and loaded.
    pub(crate) async fn new() -> Self {
        let migrated = Self::planned().await;
        migrated.carry(true).await;
        migrated
    }

    /// As [`Self::new`], before anything has run.
    pub(crate) async fn planned() -> Self {
        let site = Site::over(TestDb::new().await);
        site.db.admin().batch_execute(ITEMS).await.unwrap();
        std::fs::create_dir(site.path().join("lake")).unwrap();
        let ran = site.apply(&flow(&site)).await;
        ran.ok();
        let mut coordinator = site.serve(10).await;
        site.planned("copy").await;
        coordinator.stop().await;
        eventually("the coordinator's term to end", || async {
            let held = site
                .db
                .count("odf.leader where holder is not null and expires > clock_timestamp()")
                .await;
            (held == 0).then_some(())
        })
        .await;
        let leader = TestLeader::start(&site.db).await;
        let worker = TestWorker::start(&site.db, "w1", 20).await;
        leader.passes().await;
        Self {
            site,
            worker,
            by_place: false,
        }
    }

    /// Carries every chunk through both jobs; `summed` says whether the extracts' figures are kept.
    pub(crate) async fn carry(&self, summed: bool) {
        loop {
            let items = self.worker.claim(20).await;
            if items.is_empty() {
                return;
            }
            for item in &items {
                let result = if item.dataset == "file" {
                    self.extract(item, summed).await
                } else {
                    self.load(item).await
                };
                assert_eq!(self.worker.settle(item, result).await, Settled::Applied);
            }
        }
    }

    async fn extract(&self, item: &WorkItem, summed: bool) -> AttemptResult {
        let (rows, sum, bytes) = self.copied(item).await;
        let name = format!("file/{}.{}.csv", item.key, item.fence);
        let path = self.site.path().join("lake").join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let checksum: String = self
            .site
            .db
            .get("select 'sha256:' || encode(sha256($1), 'hex')", &[&bytes])
            .await;
        report(OutputReport {
            location: Some(name),
            rows: Some(rows),
            bytes: Some(bytes.len() as i64),
            checksum: Some(checksum),
            validation: summed.then(|| Validation {
                format: Some("csv".to_owned()),
                rows: Some(rows as u64),
                row_sum: Some(sum),
                ..Validation::default()
            }),
        })
    }

    async fn load(&self, item: &WorkItem) -> AttemptResult {
        let predicate = sql_predicate(&item.bounds).unwrap();
        let sql = format!("insert into dwh.items select * from public.items where {predicate}");
        self.site
            .db
            .exec(&format!("delete from dwh.items where {predicate}"), &[])
            .await;
        let rows = self.site.db.exec(&sql, &[]).await;
        report(OutputReport {
            location: Some("dwh.items".to_owned()),
            rows: Some(rows as i64),
            bytes: None,
            checksum: None,
            validation: None,
        })
    }

    /// Rows, row sum and bytes of a chunk of the source as COPY prints it.
    async fn copied(&self, item: &WorkItem) -> (i64, String, Vec<u8>) {
        let admin = self.site.db.another_admin().await;
        admin
            .batch_execute("set timezone = utc; set datestyle = iso")
            .await
            .unwrap();
        let predicate = sql_predicate(&item.bounds).unwrap();
        let sql = format!("copy (select * from public.items where {predicate}) to stdout");
        let parts: Vec<_> = admin
            .copy_out(&sql)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let text: Vec<u8> = parts.concat();
        let mut names: Vec<String> = self
            .site
            .db
            .column("select attname::text from pg_attribute where attrelid = 'public.items'::regclass and attnum > 0 order by attnum")
            .await;
        if self.by_place {
            names = (1..=names.len()).map(|n| n.to_string()).collect();
        }
        let mut sum = RowSum::default();
        sum.columns(&names);
        let mut rows = 0;
        for line in text.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
            let fields: Vec<Option<Vec<u8>>> =
                line.split(|byte| *byte == b'\t').map(unescaped).collect();
            let values: Vec<Option<&[u8]>> = fields.iter().map(Option::as_deref).collect();
            sum.add(&values);
            rows += 1;
        }
        (rows, sum.hex(), text)
    }

    /// `coordinator` with those words, as an operator, with both connections in its environment.
    pub(crate) async fn command(&self, words: &[&str]) -> Ran {
        self.site.command(words).await.run().await
    }

    /// The same with a JSON answer and the exit code that is expected.
    pub(crate) async fn json(&self, words: &[&str], code: i32) -> Value {
        let mut all = words.to_vec();
        all.extend(["-o", "json"]);
        let ran = self.command(&all).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Statements on source and target.
    pub(crate) async fn sql(&self, sql: &str) {
        self.site.db.admin().batch_execute(sql).await.unwrap();
    }
}

fn report(output: OutputReport) -> AttemptResult {
    AttemptResult::bare(Outcome::Validated(output))
}

/// A field of COPY's text format.
fn unescaped(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let mut text = Vec::new();
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        text.push(match (byte, byte == &b'\\') {
            (_, true) => match bytes.next().unwrap() {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                other => *other,
            },
            (byte, false) => *byte,
        });
    }
    Some(text)
}

fn flow(site: &Site) -> String {
    format!(
        "flow: test
connections:
  src: {{ kind: postgres, url: \"${{secret:SRC_URL}}\" }}
  dwh: {{ kind: postgres, url: \"${{secret:SRC_URL}}\" }}
  lake: {{ kind: files, root: {} }}
datasets:
  items: {{ at: {{ connection: src, table: public.items }}, partition: {{ key: id, chunks: 10 }} }}
  file: {{ at: {{ connection: lake, path: \"file/{{chunk}}.{{fence}}.csv\" }} }}
  copy: {{ at: {{ connection: dwh, table: dwh.items }} }}
jobs:
  extract: {{ input: items, output: file, run: {{ script: run.sh }} }}
  load: {{ input: file, output: copy, run: {{ script: run.sh }} }}
",
        site.path().join("lake").display()
    )
}
