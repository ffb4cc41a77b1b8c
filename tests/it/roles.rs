//! Least privilege: each login can do what its verbs need and nothing else.

use std::collections::BTreeSet;

use common::endpoint::PgSession;

use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker};

const ROLES: [Role; 4] = [
    Role::Coordinator,
    Role::Worker,
    Role::Operator,
    Role::Viewer,
];

const OF_WORKER: &[&str] = &[
    "register",
    "beat",
    "look",
    "claim",
    "settle",
    "reconcile",
    "end_session",
    "attempt_inputs",
    "take_removals",
    "settle_removals",
    "peek",
    "peek_inputs",
];
const OF_READERS: &[&str] = &[
    "clock",
    "shown_status",
    "select_chunks",
    "pool_limit",
    "unconsumed",
    "made_from",
    "replan_now",
];
const OF_OPERATOR: &[&str] = &[
    "scale",
    "scale_worker",
    "drain_worker",
    "pause",
    "approve",
    "request",
    "request_chunks",
    "reject",
    "apply_flow",
    "ask_replan",
    "confirm_replan",
    "withdraw_replan",
    "record_reconciliation",
    "peek",
    "peek_inputs",
];
const OF_LEADER: &[&str] = &[
    "lead",
    "resign",
    "prove_term",
    "report_loop",
    "sweep",
    "beats",
    "retry_due",
    "promote",
    "move_floors",
    "look_below_floors",
    "fold_progress",
    "find_stranded",
    "prune",
    "watch_space",
    "allot_if_needed",
    "begin_plan",
    "add_chunks",
    "seal_plan",
    "plan_sides",
    "add_edges",
    "add_gaps",
    "seal_linked",
    "derive_plan",
    "unplanned",
    "plan_failed",
    "open_replans",
    "begin_replan",
    "prepare_replan",
    "switch_plans",
    "fail_replan",
];

fn allowed(role: Role) -> BTreeSet<&'static str> {
    let lists: &[&[&str]] = match role {
        Role::Worker => &[OF_WORKER],
        Role::Viewer => &[OF_READERS],
        Role::Operator => &[OF_READERS, OF_OPERATOR],
        Role::Coordinator => &[OF_READERS, OF_OPERATOR, OF_LEADER],
    };
    lists.concat().into_iter().collect()
}

/// SQLSTATE of a statement, `None` where it was allowed.
async fn refusal(login: &PgSession, sql: &str) -> Option<String> {
    let ran = login.batch_execute(&format!("begin; {sql}")).await;
    login.batch_execute("rollback").await.unwrap();
    ran.err().map(|error| {
        let code = error.code().map(|code| code.code().to_owned());
        code.unwrap_or_else(|| error.to_string())
    })
}

const DENIED: &str = "42501";

/// What may be called with any snapshot: it reads, or writes one row that nothing is decided by.
const AT_ANY_LEVEL: &[&str] = &[
    "clock",
    "shown_status",
    "select_chunks",
    "pool_limit",
    "unconsumed",
    "peek",
    "peek_inputs",
    "unplanned",
    "lead",
    "resign",
    "report_loop",
    "plan_failed",
    "replan_now",
    "made_from",
    "plan_sides",
];

#[tokio::test]
async fn every_function_that_decides_refuses_an_older_snapshot() {
    let db = TestDb::new().await;
    let calls = db
        .admin()
        .query(
            "select p.proname::text, format('select odf.%I(%s)', p.proname,
                    (select coalesce(string_agg('null::' || t::regtype::text, ', ' order by n), '')
                       from unnest(p.proargtypes) with ordinality as a(t, n)))
               from pg_proc p where p.pronamespace = 'odf'::regnamespace and p.prorettype <> 'trigger'::regtype",
            &[],
        )
        .await
        .unwrap();
    for role in ROLES {
        let login = db.login(role).await;
        let allowed = allowed(role);
        for row in &calls {
            let (name, call): (String, String) = (row.get(0), row.get(1));
            if !allowed.contains(name.as_str()) || AT_ANY_LEVEL.contains(&name.as_str()) {
                continue;
            }
            let late = format!("set transaction isolation level repeatable read; {call}");
            assert_eq!(
                refusal(&login, &late).await.as_deref(),
                Some("OD002"),
                "{role:?}: {name}: begin it with odf.demand_read_committed()"
            );
        }
    }
}

#[tokio::test]
async fn every_function_is_open_to_exactly_the_roles_that_need_it() {
    let db = TestDb::new().await;
    let functions = db
        .admin()
        .query(
            "select p.proname::text, p.oid::regprocedure::text,
                    (select coalesce(string_agg('null::' || t::regtype::text, ', ' order by n), '')
                       from unnest(p.proargtypes) with ordinality as a(t, n)),
                    p.prorettype = 'trigger'::regtype
               from pg_proc p where p.pronamespace = 'odf'::regnamespace",
            &[],
        )
        .await
        .unwrap();
    assert!(functions.len() > 50);
    for role in ROLES {
        let login = db.login(role).await;
        let allowed = allowed(role);
        let mut met = BTreeSet::new();
        for row in &functions {
            let (name, signature, nulls): (String, String, String) =
                (row.get(0), row.get(1), row.get(2));
            if row.get(3) {
                continue;
            }
            let refused = refusal(&login, &format!("select odf.{name}({nulls})")).await;
            if allowed.contains(name.as_str()) {
                assert_ne!(
                    refused.as_deref(),
                    Some(DENIED),
                    "{role:?} may call {signature}"
                );
                met.insert(name);
            } else {
                assert_eq!(
                    refused.as_deref(),
                    Some(DENIED),
                    "{role:?} must not call {signature}"
                );
            }
        }
        assert_eq!(
            met.len(),
            allowed.len(),
            "{role:?}: every function on the list exists"
        );
    }
}

#[tokio::test]
async fn no_login_writes_a_table_and_a_worker_reads_none() {
    let db = TestDb::new().await;
    let tables: Vec<String> = db
        .column("select oid::regclass::text from pg_class where relnamespace = 'odf'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S')")
        .await;
    assert!(tables.len() > 30);
    for role in ROLES {
        let login = db.login(role).await;
        for table in &tables {
            let is_sequence = table.ends_with("_seq");
            let read = refusal(&login, &format!("select * from {table}")).await;
            let hidden = role == Role::Worker || is_sequence || table == "odf.worker_session";
            if hidden {
                assert_eq!(
                    read.as_deref(),
                    Some(DENIED),
                    "{role:?} must not read {table}"
                );
            } else if !table.contains("_default") {
                assert_eq!(read, None, "{role:?} reads {table}");
            }
            if is_sequence {
                let drawn = refusal(&login, &format!("select nextval('{table}')")).await;
                assert_eq!(
                    drawn.as_deref(),
                    Some(DENIED),
                    "{role:?} must not draw from {table}"
                );
                continue;
            }
            for write in [
                format!("insert into {table} default values"),
                format!("delete from {table}"),
                format!("truncate {table}"),
                format!("alter table {table} rename to other"),
            ] {
                let refused = refusal(&login, &write).await;
                assert!(refused.is_some(), "{role:?}: {write}");
            }
        }
        for write in [
            "update odf.chunk_state set status = 'validated'",
            "update odf.pool set operator_limit = 99",
            "update odf.installation set clock_movable = true",
            "update odf.worker_session set state = 'dead'",
            "update odf.chunk set key = 'x'",
            "create table odf.mine (x int)",
            "create function odf.clock(int) returns int language sql as 'select 1'",
            "alter function odf.clock() owner to current_user",
            "set role odf_owner",
            "grant execute on function odf.allot() to odf_worker",
            "select odf.move_clock('1 day')",
        ] {
            let refused = refusal(&login, write).await;
            assert_eq!(refused.as_deref(), Some(DENIED), "{role:?}: {write}");
        }
    }
}

#[tokio::test]
async fn nobody_reads_a_sessions_key() {
    let db = TestDb::new().await;
    TestWorker::start(&db, "w1", 1).await;
    for role in ROLES {
        let login = db.login(role).await;
        for sql in [
            "select key_sha256 from odf.worker_session",
            "select s from odf.worker_session s",
        ] {
            assert_eq!(
                refusal(&login, sql).await.as_deref(),
                Some(DENIED),
                "{role:?}: {sql}"
            );
        }
        let rest = refusal(
            &login,
            "select session_id, host, state from odf.worker_session",
        )
        .await;
        assert_eq!(rest.is_none(), role != Role::Worker);
    }
}

#[tokio::test]
async fn nothing_is_open_to_everybody() {
    let db = TestDb::new().await;
    let open: Vec<String> = db
        .column(
            "select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
              where p.pronamespace = 'odf'::regnamespace and a.grantee = 0
             union all
             select c.oid::regclass::text from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
              where c.relnamespace = 'odf'::regnamespace and c.relkind <> 'S' and a.grantee = 0",
        )
        .await;
    assert_eq!(open, [""; 0]);
    let loose: Vec<String> = db
        .column(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'odf'::regnamespace and prosecdef
                and not coalesce(proconfig @> array['search_path=odf, pg_temp'], false)",
        )
        .await;
    assert_eq!(
        loose, [""; 0],
        "every definer's function pins its search path"
    );
    let owners: Vec<String> = db
        .column(
            "select distinct pg_get_userbyid(proowner)::text from pg_proc where pronamespace = 'odf'::regnamespace
             union select pg_get_userbyid(relowner)::text from pg_class where relnamespace = 'odf'::regnamespace",
        )
        .await;
    assert_eq!(owners, ["odf_owner"]);
    let can_login: bool = db.scalar("select bool_or(rolcanlogin) from pg_roles where rolname ~ '^odf_(owner|worker|coordinator|operator|viewer)$'").await;
    assert!(!can_login);
}

/// A worker's login plants objects of our names where a search path could find them first.
#[tokio::test]
async fn planted_objects_change_nothing() {
    let db = TestDb::new().await;
    Shape::single(4).build(&db).await;
    let leader = TestLeader::start(&db).await;
    let honest = TestWorker::start(&db, "honest", 2).await;
    let attacker = TestWorker::start(&db, "attacker", 2).await;
    let login = db.login(Role::Worker).await;
    login
        .batch_execute(
            "set search_path = pg_temp, odf, public;
             create temp table worker_session as select 1::bigint as session_id, 'active'::text as state, null::bytea as key_sha256;
             create temp table lease (chunk_id bigint, session_id bigint, request_no bigint);
             create temp table allotment (session_id bigint, lane_id int, slots int);
             create temp table chunk_state (chunk_id bigint, status text);
             create temp table installation as select interval '10 years' as clock_offset, 999 as epoch_offset, true as clock_movable;
             create temp table leader as select 1::bigint as term, 'infinity'::timestamptz as expires;
             insert into allotment select s, l, 1000 from generate_series(1, 9) s, generate_series(1, 9) l;
             create function pg_temp.session_of(bigint, bytea, boolean) returns worker_session language sql as 'select * from worker_session limit 1';
             create function pg_temp.sha256(bytea) returns bytea language sql as $$ select '\\x00'::bytea $$;
             create function pg_temp.epoch() returns bigint language sql as 'select 999::bigint';
             create function pg_temp.clock() returns timestamptz language sql as $$ select 'infinity'::timestamptz $$;
             create function pg_temp.jsonb_array_length(jsonb) returns int language sql as 'select 1/0';
             create function pg_temp.count_all() returns bigint language sql as 'select 1/0';
             create domain pg_temp.bigint as text check (false);
             create function pg_temp.always(pg_catalog.int8, pg_catalog.int8) returns boolean language sql as 'select true';
             create operator pg_temp.= (leftarg = pg_catalog.int8, rightarg = pg_catalog.int8, function = pg_temp.always);",
        )
        .await
        .unwrap();
    // With the honest one's session and a wrong key.
    let forged = login
        .query(
            "select odf.claim($1, $2, 1, 4)",
            &[&honest.id().0, &attacker.session.key().as_slice()],
        )
        .await
        .unwrap_err();
    assert_eq!(forged.code().unwrap().code(), "OD001", "{forged}");
    let own: serde_json::Value = login
        .query_one(
            "select odf.claim($1, $2, 1, 1000)",
            &[&attacker.id().0, &attacker.session.key().as_slice()],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(
        own["leases"].as_array().unwrap().len(),
        2,
        "its own slots, not the planted rights"
    );
    let epochs: Vec<i64> = db
        .column("select distinct fence >> 32 from odf.lease")
        .await;
    assert_eq!(epochs, [db.scalar::<i64>("select odf.epoch()").await]);
    let claimed_late: i64 = db
        .count("odf.lease where claimed_at > now() + interval '1 hour'")
        .await;
    assert_eq!(claimed_late, 0, "and its clock is not ours");
    assert_eq!(
        refusal(&login, "select odf.sweep(1, '[]', '1 s')")
            .await
            .as_deref(),
        Some(DENIED)
    );
    leader.passes().await;
    assert_eq!(honest.drain(2).await, 2);
}
