//! Installing: once, twice, at once, interrupted, over running workers, and never over something newer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coordinator::install::{API, API_VERSION, InstallError, MIGRATIONS, install};
use tokio::task::JoinSet;

use crate::harness::cluster::{PASSWORD, own_server, run, session};
use crate::harness::{Role, Shape, TestDb, TestWorker};

/// Everything that an installation is made of, as text: functions with their bodies and rights, tables,
/// columns, triggers.
const INVENTORY: &str = "select string_agg(line, chr(10) order by line) from (
    select p.oid::regprocedure || pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') as line
      from pg_proc p where p.pronamespace = 'odf'::regnamespace
    union all
    select c.relname::text || c.relkind::text || coalesce(c.relacl::text, '') || coalesce(a.attname::text || format_type(a.atttypid, a.atttypmod), '')
      from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
     where c.relnamespace = 'odf'::regnamespace
    union all
    select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
     where c.relnamespace = 'odf'::regnamespace and not t.tgisinternal and t.tgname <> 'check_transition') parts";

/// Compares two inventories and shows only the lines that differ.
fn same(left: &str, right: &str) {
    let parts = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (left, right) = (parts(left), parts(right));
    let differing: Vec<_> = left.symmetric_difference(&right).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

async fn inventory(db: &TestDb) -> String {
    db.scalar(INVENTORY).await
}

#[tokio::test]
async fn the_second_time_changes_nothing() {
    let db = TestDb::empty().await;
    let first = install(&db.admin_url()).await.unwrap();
    assert_eq!((first.api_before, first.api_now), (0, API_VERSION));
    assert_eq!(first.migrations.len(), MIGRATIONS.iter().count());
    let before = inventory(&db).await;
    let id: String = db
        .scalar("select installation_id::text from odf.installation")
        .await;
    let second = install(&db.admin_url()).await.unwrap();
    assert_eq!(
        (second.migrations.len(), second.api_before),
        (0, API_VERSION)
    );
    same(&inventory(&db).await, &before);
    assert_eq!(
        db.scalar::<String>("select installation_id::text from odf.installation")
            .await,
        id
    );
}

#[tokio::test]
async fn several_at_once_end_with_one() {
    let db = TestDb::empty().await;
    let mut tasks = JoinSet::new();
    for _ in 0..5 {
        let url = db.admin_url();
        tasks.spawn(async move { install(&url).await.unwrap() });
    }
    let done = tasks.join_all().await;
    let made = done.iter().filter(|i| i.api_before == 0).count();
    assert_eq!(made, 1, "one made it, the others found it: {done:?}");
    let other = TestDb::empty().await;
    install(&other.admin_url()).await.unwrap();
    same(&inventory(&db).await, &inventory(&other).await);
}

/// Two databases of a new server: their installers meet over the roles, which they share.
#[tokio::test]
async fn two_databases_of_a_new_server_at_once() {
    let pg = own_server(&[]).await;
    let mut tasks = JoinSet::new();
    for name in ["a", "b", "c"] {
        pg.ensure_database(name).await.unwrap();
        let url = pg.url(name);
        tasks.spawn(async move { install(&url).await.unwrap() });
    }
    assert!(tasks.join_all().await.iter().all(|i| i.api_before == 0));
}

#[tokio::test]
async fn killed_at_any_moment_it_is_finished_by_the_next() {
    let db = TestDb::empty().await;
    let mut killed = 0;
    for turn in 0..40_u64 {
        let url = db.admin_url();
        let mut task = JoinSet::new();
        task.spawn(async move { install(&url).await });
        // Later in every turn, so that each part of it is hit by one.
        let killer = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5 + turn * 8)).await;
                let hit: i64 = db
                    .scalar(
                        "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
                          where application_name = 'odf-init' and datname = current_database()",
                    )
                    .await;
                killed += usize::from(hit > 0);
            }
        };
        let ended = tokio::select! {
            ended = task.join_next() => ended.unwrap().unwrap(),
            () = killer => unreachable!(),
        };
        if ended.is_ok() {
            break;
        }
    }
    assert!(killed >= 3, "{killed}");
    install(&db.admin_url()).await.unwrap();
    let whole = TestDb::empty().await;
    install(&whole.admin_url()).await.unwrap();
    same(&inventory(&db).await, &inventory(&whole).await);
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let db = TestDb::new().await;
    let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap();
    db.exec(
        "insert into odf._sqlx_migrations (version, description, success, checksum, execution_time) values ($1, 'later', true, '', 0)",
        &[&(newest + 1)],
    )
    .await;
    db.exec("drop function odf.move_clock(interval)", &[]).await;
    let before = inventory(&db).await;
    let refused = install(&db.admin_url()).await;
    let Err(InstallError::Newer { found, known }) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!((*found, *known), (newest + 1, newest));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("nothing was changed")
    );
    same(&inventory(&db).await, &before);
}

#[tokio::test]
async fn functions_of_a_newer_build_are_left_alone() {
    let db = TestDb::new().await;
    db.admin()
        .batch_execute(
            "create or replace function odf.has_work(p_session bigint) returns boolean language sql as 'select true';
             update odf.installation set api_version = 999",
        )
        .await
        .unwrap();
    let before = inventory(&db).await;
    let installed = install(&db.admin_url()).await.unwrap();
    assert_eq!((installed.api_before, installed.api_now), (999, 999));
    same(&inventory(&db).await, &before);
    assert_eq!(
        db.scalar::<i32>("select api_version from odf.installation")
            .await,
        999
    );
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let db = TestDb::new().await;
    db.exec(
        "update odf._sqlx_migrations set checksum = 'edited' where version = 1",
        &[],
    )
    .await;
    let refused = install(&db.admin_url()).await;
    assert!(
        matches!(refused, Err(InstallError::Altered { version: 1 })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_login_without_the_right_is_told_so() {
    let db = TestDb::empty().await;
    let refused = install(&db.url(Role::Worker)).await;
    let Err(error) = refused else {
        panic!("{refused:?}")
    };
    assert!(matches!(error, InstallError::Denied { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("coordinator init") && text.contains("CREATEROLE"),
        "{text}"
    );
    assert!(!text.contains(PASSWORD) || PASSWORD.len() < 5, "{text}");
    let made: i64 = db.count("pg_namespace where nspname = 'odf'").await;
    assert_eq!(made, 0);
}

/// Not everybody has a superuser: a role that may create roles and owns the database is enough.
#[tokio::test]
async fn a_role_that_may_create_roles_is_enough() {
    let pg = own_server(&[]).await;
    let admin = session(&pg.url("postgres")).await;
    run(
        &admin,
        &format!("create role dba login createrole password '{PASSWORD}'"),
    )
    .await;
    run(&admin, "create database odf owner dba").await;
    let url = format!(
        "postgres://dba:{PASSWORD}@127.0.0.1:{}/odf?sslmode=disable",
        pg.port()
    );
    install(&url).await.unwrap();
    install(&url).await.unwrap();
    let owner = session(&pg.url("odf")).await;
    let functions: i64 = owner
        .query_one(
            "select count(*) from pg_proc where pronamespace = 'odf'::regnamespace",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(functions > 50, "{functions}");
}

#[tokio::test]
async fn over_running_workers_nothing_is_lost() {
    const CHUNKS: usize = 150;
    let db = TestDb::new().await;
    Shape::chain(CHUNKS).build(&db).await;
    let control = db.control(Role::Worker);
    let done = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for n in 0..3 {
        let worker = TestWorker::start_on(&control, &format!("w{n}"), 2).await;
        let (done, stop) = (done.clone(), stop.clone());
        tasks.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                worker.beat().await;
                let items = worker.claim(2).await;
                worker.complete(&items).await;
                done.fetch_add(items.len(), Ordering::SeqCst);
            }
        });
    }
    let mut installs = 0;
    while done.load(Ordering::SeqCst) < 2 * CHUNKS {
        install(&db.admin_url()).await.unwrap();
        installs += 1;
    }
    stop.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    assert!(installs > 2);
    assert_eq!(db.count("odf.publication").await, 2 * CHUNKS as i64);
}

#[test]
fn every_function_file_is_installed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/api");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let mut installed: Vec<&str> = API.iter().map(|(name, _)| *name).collect();
    assert_eq!(installed.last(), Some(&"grants"), "rights are given last");
    files.sort();
    installed.sort_unstable();
    assert_eq!(files, installed);
}
