//! `coordinator apply`: idempotent, versioned, all or nothing, whatever the names and whoever else is at it.

use futures_util::future::join_all;
use serde_json::Value;

use crate::coordinator_support::{HEAD, Site, chain};
use crate::harness::{Role, TestLeader, TestWorker, eventually};

const TEN: &str = "{ key: id, chunks: 10 }";

/// The applied flow, planned by hand in so many chunks.
async fn plan(site: &Site, chunks: i64) {
    let control = site.db.control(Role::Coordinator);
    for set in control.unplanned().await.unwrap() {
        if set.split {
            let plan = control.begin_plan(set.data_set_id).await.unwrap();
            let batch: Vec<_> = (1..=chunks as usize)
                .map(crate::harness::flow::source_chunk)
                .collect();
            control.add_chunks(plan, 0, &batch).await.unwrap();
            control.seal_plan(plan, chunks, &[]).await.unwrap();
        } else {
            assert!(control.derive_plan(set.data_set_id).await.unwrap());
        }
    }
}

#[tokio::test]
async fn the_same_file_twice_is_one_version() {
    let site = Site::new().await;
    let said = site.apply(&chain(TEN)).await.ok();
    assert!(said.contains("flow test version 1 applied"), "{said}");
    let said = site.apply(&chain(TEN)).await.ok();
    assert!(said.contains("version 1 is in force already"), "{said}");
    assert_eq!(site.versions().await, 1);
    let dry = site
        .apply_with(&format!("{}# more\n", chain(TEN)), &["--dry-run"])
        .await
        .ok();
    assert!(dry.contains("dry run"), "{dry}");
    assert_eq!(site.versions().await, 1);
}

#[tokio::test]
async fn changes_make_a_version_and_scale_stays() {
    let site = Site::new().await;
    let with = |limit: u32, attempts: u32| {
        chain(TEN)
            .replace(
                "datasets:",
                &format!("pools:\n  extract: {{ limit: {limit} }}\ndatasets:"),
            )
            .replace(
                "output: mid,",
                &format!("output: mid, retry: {{ attempts: {attempts} }},"),
            )
    };
    site.apply(&with(10, 3)).await.ok();
    site.db
        .login(Role::Operator)
        .await
        .batch_execute("select odf.scale('extract', '2', 'slow source')")
        .await
        .unwrap();
    let said = site.apply(&with(20, 5)).await.ok();
    assert!(said.contains("version 2 applied"), "{said}");
    assert!(
        said.contains("pool extract stays at 2 (scale), the file says 20"),
        "{said}"
    );
    let limit = "select format('%s %s %s', operator_set, operator_limit, file_limit) from odf.pool where name = 'extract'";
    assert_eq!(site.db.scalar::<String>(limit).await, "t 2 20");
    let attempts: i32 = site
        .db
        .scalar("select max_attempts from odf.job where name = 'extract'")
        .await;
    assert_eq!(attempts, 5);

    let said = site
        .apply_with(&with(20, 5), &["--reset-limits"])
        .await
        .ok();
    assert!(said.contains("flow test version 2"), "{said}");
    assert_eq!(site.db.scalar::<String>(limit).await, "f  20");
    let before = site.row_counts().await;
    site.apply_with(&with(20, 5), &["--reset-limits"])
        .await
        .ok();
    assert_eq!(
        site.row_counts().await,
        before,
        "nothing to reset, nothing written"
    );
    assert_eq!(
        site.versions().await,
        2,
        "limits that were reset are no version"
    );
}

#[tokio::test]
async fn what_would_orphan_work_is_refused_and_nothing_is_changed() {
    let site = Site::new().await;
    let original = chain(TEN);
    site.apply(&original).await.ok();
    plan(&site, 10).await;
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    worker.beat().await;
    let running = worker.claim_one().await;

    let without_extract = {
        let (head, _) = original.split_once("  mid:").unwrap();
        format!(
            "{head}  dst: {{ at: {{ connection: lake, path: \"dst/{{chunk}}.{{fence}}\" }} }}\njobs:\n  load: {{ input: items, output: dst, run: {{ script: run.sh }} }}\n"
        )
    };
    let moved = original.replace("mid/", "elsewhere/");
    let cases = [
        (moved.clone(), "data set 'mid' has running chunks"),
        (
            without_extract,
            "job 'extract' has 1 running chunks and is not in the new file",
        ),
        (
            original.replace("input: mid", "input: items"),
            "data set 'dst' is planned and job 'load' of the new file makes it from other inputs",
        ),
        (
            original
                .replace("  load: {", "  load_2: {")
                .replace("input: mid", "input: items"),
            "data set 'dst' is planned and job 'load_2' of the new file makes it from other inputs",
        ),
    ];
    let before = site.row_counts().await;
    for (text, reason) in cases {
        let said = site.apply(&text).await.failed(4);
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(said.contains("Nothing was changed"), "{said}");
    }
    worker.complete(&[running]).await;
    let before_published = site.row_counts().await;
    let said = site.apply(&moved).await.failed(4);
    assert!(
        said.contains("data set 'mid' has published chunks"),
        "{said}"
    );
    assert_eq!(site.row_counts().await, before_published);
    assert_ne!(before, before_published, "the settled attempt shows");
    assert_eq!(site.versions().await, 1);
    let applied: String = site
        .db
        .scalar("select string_agg(name, ' ' order by name) from odf.job where not retired")
        .await;
    assert_eq!(applied, "extract load");
    site.apply(&original.replace("  load: {", "  load_2: {"))
        .await
        .ok();
}

#[tokio::test]
async fn what_is_removed_retires_and_comes_back() {
    let site = Site::new().await;
    site.apply(&chain(TEN)).await.ok();
    plan(&site, 3).await;
    let worker = TestWorker::start(&site.db, "w1", 4).await;
    let short: String = chain(TEN)
        .lines()
        .filter(|line| !line.contains("dst"))
        .map(|line| format!("{line}\n"))
        .collect();
    site.apply(&short).await.ok();
    let shown: Vec<String> = site
        .db
        .column("select distinct dataset from odf.chunk order by 1")
        .await;
    assert_eq!(shown, ["items", "mid"]);
    assert_eq!(worker.drain(4).await, 3, "only extract runs");

    site.apply(&chain(TEN)).await.ok();
    let leader = TestLeader::start(&site.db).await;
    leader.passes().await;
    assert_eq!(
        worker.drain(4).await,
        3,
        "what was published while load was away is loaded"
    );
    assert_eq!(site.versions().await, 3);
    assert_eq!(site.db.bugs().await, [""; 0]);
}

#[tokio::test]
async fn applies_at_once_leave_one_of_them_whole() {
    let site = Site::new().await;
    let versions: Vec<String> = (1..=6)
        .map(|n| {
            chain(TEN).replace(
                "datasets:",
                &format!(
                    "pools:\n  extract: {{ limit: {n} }}\n  load: {{ limit: {n} }}\ndatasets:"
                ),
            )
        })
        .collect();
    let mut programs = Vec::new();
    for (n, text) in versions.iter().enumerate() {
        let file = site.write(&format!("flow-{n}.yaml"), text);
        programs.push(site.command(&["apply", "-y"]).await.arg(file));
    }
    for ran in join_all(programs.iter().map(|program| program.run())).await {
        ran.ok();
    }
    let numbers: Vec<i32> = site
        .db
        .column("select version from odf.flow_version order by version")
        .await;
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let model: Value = site
        .db
        .scalar(
            "select model from odf.flow f join odf.flow_version v on v.flow_id = f.flow_id and v.version = f.current_version",
        )
        .await;
    let last = model["pools"]["load"]["limit"].as_i64();
    let limits: Vec<i32> = site
        .db
        .column("select file_limit from odf.pool order by name")
        .await;
    assert_eq!(limits, [last.unwrap() as i32; 2]);
}

#[tokio::test]
async fn an_apply_that_is_killed_leaves_nothing() {
    let site = Site::new().await;
    site.apply(&chain(TEN)).await.ok();
    let before = site.row_counts().await;
    let lock = site.db.another_admin().await;
    lock.batch_execute("begin; lock table odf.lane_pool in access exclusive mode")
        .await
        .unwrap();
    let file = site.write(
        "new.yaml",
        &chain(TEN).replace(
            "datasets:",
            "pools:\n  extract: { limit: 7 }\ndatasets:\n  more: { at: { connection: src, table: more }, partition: single }",
        ),
    );
    let program = site.command(&["apply", "-y"]).await.arg(file);
    let killed = async {
        let pid: i32 = eventually("an apply that waits for the lock", || async {
            site.db
                .column(
                    "select pid from pg_stat_activity where application_name = 'coordinator-cli'
                      and datname = current_database() and wait_event_type = 'Lock'",
                )
                .await
                .first()
                .copied()
        })
        .await;
        site.db
            .exec("select pg_terminate_backend($1)", &[&pid])
            .await;
    };
    let (ran, ()) = futures_util::join!(program.run(), killed);
    let said = ran.failed(1);
    assert!(said.contains("apply flow test"), "{said}");
    lock.batch_execute("commit").await.unwrap();
    assert_eq!(site.row_counts().await, before);
    program.run().await.ok();
    assert_eq!(site.versions().await, 2);
}

#[tokio::test]
async fn hostile_names_arrive_as_they_are() {
    let site = Site::new().await;
    let text = format!(
        "{HEAD}pools:
  \"po'ol; drop schema odf --\": {{ limit: 3 }}
datasets:
  'städte \"x\" $(touch pwned)': {{ at: {{ connection: src, table: '\"we\"\"ird $(touch pwned)\".\"tä;b''le\"' }}, partition: {{ list: ['$(id)', \"a'b\", 'ü%s'] }} }}
  '`out`': {{ at: {{ connection: lake, path: 'o''u t/$(touch pwned)/{{chunk}}.{{fence}}' }} }}
jobs:
  \"j'o\\\"b\": {{ input: 'städte \"x\" $(touch pwned)', output: '`out`', pools: [\"po'ol; drop schema odf --\"], run: {{ script: run.sh, args: [\"'; rm -rf / #\", '{{chunk}}'] }} }}
"
    );
    let ran = site.apply(&text).await;
    ran.ok();
    let names: Vec<String> = site
        .db
        .column("select name from odf.data_set union all select name from odf.job union all select name from odf.pool order by 1")
        .await;
    for name in [
        "städte \"x\" $(touch pwned)",
        "`out`",
        "j'o\"b",
        "po'ol; drop schema odf --",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    let spec: Value = site
        .db
        .scalar("select spec from odf.data_set where name like 'st%'")
        .await;
    assert_eq!(
        spec["at"]["table"],
        "\"we\"\"ird $(touch pwned)\".\"tä;b'le\""
    );
    assert_eq!(spec["partition"]["values"][0], "$(id)");
    assert!(!site.path().join("pwned").exists());
    assert!(!std::path::Path::new("pwned").exists());
}

#[tokio::test]
async fn scripts_are_pinned_and_a_changed_script_is_a_version() {
    let site = Site::new().await;
    site.write("run.sh", "#!/bin/sh\nexit 0\n");
    let dir = site.path().to_str().unwrap().to_owned();
    let pinned = ["--script-dir", dir.as_str()];
    site.apply_with(&chain(TEN), &pinned).await.ok();
    let hash = "select distinct spec ->> 'script_sha256' from odf.job";
    let first: String = site.db.scalar(hash).await;
    assert_eq!(first.len(), 64);
    site.apply_with(&chain(TEN), &pinned).await.ok();
    assert_eq!(site.versions().await, 1);
    site.write("run.sh", "#!/bin/sh\nexit 65\n");
    let dry = [&pinned[..], &["--dry-run"]].concat();
    let said = site.apply_with(&chain(TEN), &dry).await.ok();
    assert!(said.contains("2 changes, nothing applied"), "{said}");
    let said = site.apply_with(&chain(TEN), &pinned).await.ok();
    assert!(
        said.contains("jobs.load.run.script, its content: sha256 "),
        "{said}"
    );
    assert_eq!(site.versions().await, 2);
    assert_ne!(site.db.scalar::<String>(hash).await, first);
    let version: i32 = site.db.scalar("select min(version) from odf.job").await;
    assert_eq!(version, 2, "attempts tell which script they ran");
    std::fs::remove_file(site.path().join("run.sh")).unwrap();
    let said = site.apply_with(&chain(TEN), &pinned).await.ok();
    assert!(
        said.contains("not pinned: job extract: script run.sh"),
        "{said}"
    );
    assert!(
        said.contains("jobs.extract.run.script, its content: removed"),
        "{said}"
    );
}

#[tokio::test]
async fn a_broken_file_is_told_with_its_place() {
    let site = Site::new().await;
    let broken = chain(TEN).replace("run: { script", "rnu: { script");
    let before = site.row_counts().await;
    let said = site.apply(&broken).await.failed(2);
    let line = broken
        .lines()
        .position(|line| line.contains("rnu"))
        .unwrap()
        + 1;
    let column = broken.lines().nth(line - 1).unwrap().find("rnu").unwrap() + 1;
    assert!(
        said.contains(&format!("flow.yaml:{line}:{column}")),
        "{said}"
    );
    assert!(said.contains("did you mean"), "{said}");
    let said = site.apply("flow: [").await.failed(2);
    assert!(said.contains("flow.yaml:1:"), "{said}");
    let missing = site.path().join("no such file.yaml");
    let said = site
        .command(&["apply", "-y"])
        .await
        .arg(missing)
        .run()
        .await
        .failed(2);
    assert!(said.contains("no such file.yaml"), "{said}");
    assert_eq!(site.row_counts().await, before);
}

#[tokio::test]
async fn a_wrong_database_is_told_without_its_password() {
    let site = Site::new().await;
    let file = site.write("flow.yaml", &chain(TEN));
    let right = site.db.url(Role::Operator);
    let cases = [
        (right.replace(":test@", ":sesame@"), "password"),
        (
            right.replace(&format!(":{}", site.db.port()), ":1"),
            "cannot reach",
        ),
        (
            right.replace(site.db.name(), "no_such_database"),
            "no such database",
        ),
        ("nonsense".to_owned(), "url"),
        (site.db.url(Role::Worker), "permission denied"),
    ];
    for (url, reason) in cases {
        let said = site
            .command(&["apply", "-y"])
            .await
            .database(url)
            .arg(&file)
            .run()
            .await
            .failed(1);
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(said.contains("hint"), "{said}");
        assert!(!said.contains("sesame"), "{said}");
    }
}
