//! `coordinator serve` as a process: who leads, what a dead or paused leader leaves behind, and what
//! it says when it cannot start.

use std::time::{Duration, Instant};

use common::private_pg::StopMode;
use nix::sys::signal::Signal;

use crate::coordinator_support::{HEAD, Site, chain};
use crate::harness::{Daemon, Program, Role, TestDb, cluster, eventually};

const TEN: &str = "{ key: id, chunks: 10 }";

impl Site {
    /// The term and the process id of the leader, where anybody leads now.
    async fn leader(&self) -> Option<(i64, u32)> {
        let sql = "select format('%s %s', term, split_part(holder, ':', 2)) from odf.leader where expires > clock_timestamp()";
        let found: Vec<String> = self.db.column(sql).await;
        let (term, pid) = found.first()?.split_once(' ')?;
        Some((term.parse().ok()?, pid.parse().ok()?))
    }

    /// Waits until that process leads; answers the term.
    async fn until_led_by(&self, daemon: &Daemon) -> i64 {
        eventually("the other coordinator to lead", || async {
            let (term, pid) = self.leader().await?;
            (pid == daemon.pid()).then_some(term)
        })
        .await
    }

    /// How many loop reports of an earlier term came after the present one began.
    async fn late_reports(&self) -> i64 {
        self.db
            .count("odf.loop_status l, odf.leader n where l.term < n.term and l.last_at > n.since")
            .await
    }

    /// Waits until a plan is being written.
    async fn until_writing(&self) {
        eventually("a plan that is being written", || async {
            (self.db.count("odf.data_chunk").await > 0).then_some(())
        })
        .await;
        let sealed = self.db.count("odf.plan where state = 'sealed'").await;
        assert_eq!(sealed, 0, "it was too fast to be caught in the middle");
    }

    /// Demands that `numbers` has exactly the chunks 1 to n, in one sealed plan.
    async fn assert_exact(&self, n: i64) {
        let wrong = format!(
            "generate_series(1, {n}) g full join odf.chunk c on c.key = g::text and c.ordinal = g where c.key is null or g is null"
        );
        assert_eq!(self.db.count(&wrong).await, 0);
        assert_eq!(self.db.count("odf.plan").await, 1);
        assert_eq!(self.db.count("odf.data_chunk").await, n);
        assert_eq!(self.db.count("odf.chunk_state").await, n);
        let sealed: i64 = self.db.scalar("select chunks from odf.plan").await;
        assert_eq!(sealed, n);
    }
}

/// A flow with one source of so many chunks.
fn numbers(n: i64) -> String {
    format!(
        "{HEAD}datasets:
  numbers: {{ at: {{ connection: src, table: any }}, partition: {{ query: \"select n from generate_series(1, {n}) n\", name: n }} }}
"
    )
}

#[tokio::test]
async fn one_leads_and_another_takes_over() {
    let site = Site::new().await;
    let mut first = site.serve(5).await;
    first.until_said("leading term 1").await;
    let mut second = site.serve(5).await;
    second.until_said("leads term 1; standing by").await;
    assert_eq!(site.leader().await, Some((1, first.pid())));

    first.kill_hard().await;
    let killed = Instant::now();
    assert_eq!(site.until_led_by(&second).await, 2);
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
    site.apply(&chain("{ list: [a, b] }")).await.ok();
    site.planned("dst").await;

    let mut third = site.serve(5).await;
    third.until_said("leads term 2; standing by").await;
    second.stop().await;
    let resigned: bool = site
        .db
        .scalar("select term > 2 or expires = '-infinity' from odf.leader")
        .await;
    assert!(
        resigned,
        "a leader that ends in order does not let others wait"
    );
    assert_eq!(site.until_led_by(&third).await, 3);
    third.stop().await;
    assert_eq!(site.late_reports().await, 0);
    let terms: Vec<String> = site
        .db
        .column("select message from odf.event where kind = 'coordinator.leads' order by at")
        .await;
    assert_eq!(terms, ["term 1", "term 2", "term 3"]);
}

#[tokio::test]
async fn a_leader_killed_while_it_writes_a_plan_leaves_nothing_usable() {
    const N: i64 = 100_000;
    let site = Site::new().await;
    site.apply(&numbers(N)).await.ok();
    let mut first = site.serve(5).await;
    site.until_writing().await;
    first.kill_hard().await;
    assert_eq!(site.db.count("odf.chunk").await, 0);
    assert_eq!(site.db.count("odf.chunk_state").await, 0);
    assert_eq!(
        site.db
            .count("odf.data_set where plan_id is not null")
            .await,
        0
    );
    let check = site
        .command(&["plan", "--check", "numbers"])
        .await
        .run()
        .await;
    check.failed(3);

    let mut second = site.serve(5).await;
    site.planned("numbers").await;
    site.assert_exact(N).await;
    second.stop().await;
    let discarded = "odf.event where kind = 'plan.discarded'";
    assert_eq!(site.db.count(discarded).await, 1);
}

#[tokio::test]
async fn a_paused_leader_is_overtaken_and_changes_nothing_afterwards() {
    const N: i64 = 40_000;
    let site = Site::new().await;
    site.apply(&numbers(N)).await.ok();
    let mut first = site.serve(5).await;
    site.until_writing().await;
    first.signal(Signal::SIGSTOP);
    let mut second = site.serve(5).await;
    let term = site.until_led_by(&second).await;
    assert!(term > 1);
    site.planned("numbers").await;
    let events = site.db.count("odf.event").await;

    first.signal(Signal::SIGCONT);
    first
        .until_said(&format!("leads term {term}; standing by"))
        .await;
    site.assert_exact(N).await;
    assert_eq!(site.late_reports().await, 0);
    let ours: i64 = site
        .db
        .count("odf.event where kind like 'plan.%' or kind = 'coordinator.leads'")
        .await;
    assert_eq!(ours, 4, "two terms, one plan discarded, one sealed");
    assert!(site.db.count("odf.event").await >= events);
    assert_eq!(site.leader().await.map(|(term, _)| term), Some(term));
    first.stop().await;
    assert_eq!(
        site.leader().await,
        Some((term, second.pid())),
        "whoever does not lead has nothing to resign"
    );
    second.stop().await;
}

#[tokio::test]
async fn a_new_version_overtakes_the_split_of_the_old_one() {
    let site = Site::new().await;
    site.apply(&numbers(60_000)).await.ok();
    let mut coordinator = site.serve(10).await;
    site.until_writing().await;
    site.apply(&numbers(7)).await.ok();
    site.planned("numbers").await;
    site.assert_exact(7).await;
    let error: Option<String> = site.db.scalar("select plan_error from odf.data_set").await;
    assert_eq!(error, None);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_slow_source_does_not_hold_up_the_others() {
    let site = Site::new().await;
    let text = format!(
        "{HEAD}datasets:
  a_slow: {{ at: {{ connection: src, table: any }}, partition: {{ query: \"select pg_sleep(600) is null as n\" }} }}
  quick: {{ at: {{ connection: src, table: other }}, partition: {{ list: [x, y] }} }}
"
    );
    site.apply(&text).await.ok();
    let mut coordinator = site.serve(10).await;
    site.planned("quick").await;
    let stopping = Instant::now();
    coordinator.stop().await;
    assert!(
        stopping.elapsed() < Duration::from_secs(10),
        "a split is dropped, not waited for: {:?}",
        stopping.elapsed()
    );
    assert_eq!(site.leader().await, None);
}

#[tokio::test]
async fn it_goes_on_when_the_database_was_away() {
    let mut server = cluster::own_server(&[("synchronous_commit", "on")]).await;
    server.ensure_database("odf").await.unwrap();
    let url = server.url("odf");
    cluster::prepare(&url).await;
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Program::coordinator(&["serve"])
        .await
        .database(&url)
        .env("SRC_URL", &url)
        .env("ODF_TIME_SCALE", "10")
        .start();
    coordinator.until_said("leading term 1").await;
    server.restart(StopMode::Immediate).await.unwrap();
    let file = dir.path().join("flow.yaml");
    std::fs::write(&file, chain("{ list: [a, b] }")).unwrap();
    Program::coordinator(&["apply", "-y"])
        .await
        .database(&url)
        .arg(file)
        .run()
        .await
        .ok();
    let admin = cluster::session(&url).await;
    eventually("a plan after the restart", || async {
        let sql = "select bool_and(plan_id is not null) from odf.data_set";
        let row = admin.query_one(sql, &[]).await.ok()?;
        row.get::<_, bool>(0).then_some(())
    })
    .await;
    coordinator.stop().await;
    admin.close().await;
    server.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_and_ends_it() {
    let site = Site::new().await;
    let empty = TestDb::empty().await;
    let right = site.db.url(Role::Coordinator);
    let cases = [
        (site.db.url(Role::Worker), "odf_coordinator"),
        (site.db.url(Role::Viewer), "odf_coordinator"),
        (empty.admin_url(), "coordinator init"),
        (empty.url(Role::Coordinator), "coordinator init"),
        (right.replace(":test@", ":sesame@"), "password"),
        (
            right.replace(site.db.name(), "no_such_database"),
            "no such database",
        ),
        (
            right.replace(&format!(":{}", site.db.port()), ":1"),
            "cannot reach",
        ),
        ("nonsense".to_owned(), "url"),
    ];
    for (url, reason) in cases {
        let said = Program::coordinator(&["serve"])
            .await
            .database(url)
            .run()
            .await
            .failed(1);
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(said.contains("hint"), "{said}");
        assert!(!said.contains("sesame"), "{said}");
    }
    site.db
        .exec("update odf.installation set api_version = 0", &[])
        .await;
    let said = site.server(1).await.run().await.failed(1);
    assert!(
        said.contains("functions of version 0") && said.contains("coordinator init"),
        "{said}"
    );
    let said = Program::coordinator(&["serve"]).await.run().await.failed(2);
    assert!(said.contains("ODF_DATABASE_URL"), "{said}");
    let said = site.server(1000).await.run().await.failed(2);
    assert!(
        said.contains("--time-scale") && said.contains("expected a number"),
        "{said}"
    );
}

#[tokio::test]
async fn a_source_that_is_away_is_planned_when_it_is_back() {
    let site = Site::with_items(100).await;
    site.apply(&chain(TEN)).await.ok();
    let secrets = tempfile::tempdir().unwrap();
    let mut coordinator = Program::coordinator(&["serve"])
        .await
        .database(site.db.url(Role::Coordinator))
        .env("ODF_SECRETS_DIR", secrets.path().to_str().unwrap())
        .env("ODF_TIME_SCALE", "10")
        .start();
    let error = "select plan_error from odf.data_set where name = 'items'";
    let told = |part: &'static str| {
        let site = &site;
        eventually(part, move || async move {
            let told: Option<String> = site.db.scalar(error).await;
            told.filter(|told| told.contains(part)).map(|_| ())
        })
    };
    told("SRC_URL").await;
    let write = |url: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let file = secrets.path().join("SRC_URL");
        std::fs::write(&file, url).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let port = site.db.port();
    write(&format!("postgres://u:sesame@127.0.0.1:{port}/away"));
    told("refuses user").await;
    write("postgres://u:sesame@127.0.0.1:1/away");
    told("cannot reach 127.0.0.1:1").await;
    write(&site.db.admin_url());
    site.planned("dst").await;
    assert_eq!(site.db.scalar::<Option<String>>(error).await, None);
    coordinator.stop().await;
    let said = coordinator.said();
    assert!(!said.contains("sesame"), "{said}");
    let leaked = "odf.event where message like '%sesame%'";
    assert_eq!(site.db.count(leaked).await, 0);
}

#[tokio::test]
async fn small_and_hostile_tables_are_planned() {
    let site = Site::with_items(0).await;
    site.db
        .admin()
        .batch_execute(
            "create table one (id int primary key); insert into one values (42);
             create table same (id int, v int); create index on same (id);
             insert into same select 7, g from generate_series(1, 100) g;
             create schema \"we\"\"ird $(touch pwned)\";
             create table \"we\"\"ird $(touch pwned)\".\"tä;b'le\" (\"k\"\"ey %s\" text primary key);
             insert into \"we\"\"ird $(touch pwned)\".\"tä;b'le\" values ('a''b'), ('$(touch pwned)'), ('ü'), (E'new\\nline'), ('; drop table one');",
        )
        .await
        .unwrap();
    let text = format!(
        "{HEAD}datasets:
  items: {{ at: {{ connection: src, table: items }}, partition: {TEN} }}
  one: {{ at: {{ connection: src, table: one }}, partition: {TEN} }}
  same: {{ at: {{ connection: src, table: same }}, partition: {TEN} }}
  weird: {{ at: {{ connection: src, table: '\"we\"\"ird $(touch pwned)\".\"tä;b''le\"' }}, partition: {{ key: primary, chunks: 5 }} }}
"
    );
    site.apply(&text).await.ok();
    let mut coordinator = site.serve(10).await;
    for name in ["items", "one", "same", "weird"] {
        site.planned(name).await;
        let shown = site
            .command(&["plan", "--check", name])
            .await
            .run()
            .await
            .ok();
        assert!(shown.contains("the plan tiles the table"), "{shown}");
    }
    coordinator.stop().await;
    let chunks: Vec<String> = site
        .db
        .column("select dataset || ' ' || count(*) from odf.chunk group by dataset order by 1")
        .await;
    assert_eq!(chunks, ["items 1", "one 1", "same 1", "weird 5"]);
    assert_eq!(site.db.count("one").await, 1);
}
