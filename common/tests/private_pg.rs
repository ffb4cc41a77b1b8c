//! The private PostgreSQL against a real installation: starting, reusing, crashing, refusing.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::private_pg::{
    Death, Lifetime, PrivatePg, PrivatePgError, SUPERUSER, Settings, StopMode, discover, start,
};
use common::runtime::wait;
use nix::unistd::{Pid, getpgid};
use tokio_postgres::NoTls;

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A folder that the server's user may pass through, and the data directory to be in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::Builder::new()
        .prefix("odf-pg-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let data = root.path().join("data");
    (root, data)
}

/// Fast, and gone when the test ends, be it by a panic.
fn quick(data_dir: &Path) -> Settings {
    Settings {
        durable: false,
        lifetime: Lifetime::Process,
        ..Settings::new(data_dir)
    }
}

/// The first column of the first row, as text.
async fn ask(pg: &PrivatePg, database: &str, query: &str) -> String {
    try_ask(&pg.url(database), query).await.unwrap()
}

async fn try_ask(url: &str, query: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::select! {
        rows = client.simple_query(query) => {
            Ok(rows?.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(String::from),
                _ => None,
            }).unwrap_or_default())
        }
        ended = connection => Err(ended.unwrap_err()),
    }
}

/// As [`try_ask`], over the server's socket.
async fn ask_by_socket(pg: &PrivatePg, query: &str) -> Result<String, tokio_postgres::Error> {
    let folder = pg.socket_folder().unwrap();
    let by_tcp: tokio_postgres::Config = pg.url("postgres").parse().unwrap();
    let password = by_tcp.get_password().map(<[u8]>::to_vec);
    let mut config = tokio_postgres::Config::new();
    config.host_path(folder).port(pg.port()).user(SUPERUSER);
    config.dbname("postgres").password(password.unwrap());
    let (client, connection) = config.connect(NoTls).await?;
    tokio::select! {
        row = client.query_one(query, &[]) => Ok(row?.get(0)),
        ended = connection => Err(ended.unwrap_err()),
    }
}

#[tokio::test]
async fn it_listens_on_a_socket_that_is_its_users_alone() {
    let (root, data) = place();
    let by = "SELECT coalesce(inet_server_addr()::text, 'socket')";
    let pg = start(quick(&data)).await.unwrap();
    assert_eq!(ask_by_socket(&pg, by).await.unwrap(), "socket");
    assert_eq!(ask(&pg, "postgres", by).await, "127.0.0.1/32");
    let folder = pg.socket_folder().unwrap();
    assert_eq!(
        folder,
        fs::canonicalize(root.path()).unwrap().join("data.socket")
    );
    let meta = fs::metadata(&folder).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o700);
    assert_eq!(meta.uid(), fs::metadata(&data).unwrap().uid());
    let reused = start(quick(&data)).await.unwrap();
    assert!(reused.is_reused());
    assert_eq!(reused.socket_folder(), Some(folder));
    pg.stop(StopMode::Fast).await.unwrap();

    // Too deep for a socket's path: a short folder elsewhere, for this cluster alone.
    let deep = root.path().join("d".repeat(120)).join("data");
    let pg = start(Settings {
        lifetime: Lifetime::Throwaway,
        ..quick(&deep)
    })
    .await
    .unwrap();
    let short = pg.socket_folder().unwrap();
    assert!(!short.starts_with(root.path()), "{short:?}");
    assert_eq!(ask_by_socket(&pg, by).await.unwrap(), "socket");
    pg.stop(StopMode::Fast).await.unwrap();
    assert!(!short.exists(), "thrown away with the rest");

    // A folder that is somebody else's is not used: TCP alone.
    fs::create_dir_all(deep.parent().unwrap()).unwrap();
    fs::create_dir(&short).unwrap();
    fs::set_permissions(&short, fs::Permissions::from_mode(0o777)).unwrap();
    let pg = start(quick(&deep)).await.unwrap();
    assert_eq!(pg.socket_folder(), None);
    assert_eq!(ask(&pg, "postgres", by).await, "127.0.0.1/32");
    pg.stop(StopMode::Fast).await.unwrap();
    fs::remove_dir_all(&short).unwrap();
}

fn alive(pid: i32) -> bool {
    let ps = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8(ps.stdout).unwrap();
    // A zombie is as good as gone: it waits for its parent only.
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

async fn until_gone(pid: i32) {
    wait::until(LIMIT, PAUSE, format!("process {pid} to end"), async || {
        (!alive(pid)).then_some(())
    })
    .await
    .unwrap();
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_new_server_is_private_and_stops() {
    let (root, data) = place();
    let pg = start(quick(&data)).await.unwrap();
    assert!(!pg.is_reused());
    assert!(pg.is_alive());
    assert_eq!(ask(&pg, "postgres", "SELECT current_user").await, SUPERUSER);
    assert_eq!(ask(&pg, "postgres", "SHOW server_encoding").await, "UTF8");
    assert_eq!(ask(&pg, "postgres", "SHOW fsync").await, "off");
    let listens = ask(&pg, "postgres", "SHOW listen_addresses").await;
    assert_eq!(listens, "127.0.0.1");
    let major: u32 = ask(&pg, "postgres", "SHOW server_version_num")
        .await
        .parse()
        .unwrap();
    assert_eq!(major / 10_000, pg.version());
    let methods = "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules";
    assert_eq!(ask(&pg, "postgres", methods).await, "scram-sha-256");

    let without = pg
        .url("postgres")
        .replace(&format!("{SUPERUSER}:"), &format!("{SUPERUSER}:x"));
    assert!(try_ask(&without, "SELECT 1").await.is_err());

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&root.path().join("data.password")), 0o600);
    assert_ne!(
        fs::metadata(&data).unwrap().uid(),
        0,
        "owned by the server's user"
    );
    let here = [
        "data",
        "data.lock",
        "data.log",
        "data.password",
        "data.port",
        "data.socket",
    ];
    assert_eq!(
        names_in(root.path()),
        here,
        "nothing else stays, least of all a password"
    );
    let secret = fs::read_to_string(root.path().join("data.password")).unwrap();
    assert!(!format!("{pg:?}").contains(secret.trim()));
    assert_ne!(
        getpgid(Some(Pid::from_raw(pg.pid()))),
        getpgid(None),
        "deaf to our Ctrl-C"
    );

    let (pid, url) = (pg.pid(), pg.url("postgres"));
    pg.stop(StopMode::Fast).await.unwrap();
    assert!(!alive(pid));
    assert!(try_ask(&url, "SELECT 1").await.is_err());
    assert!(!data.join("postmaster.pid").exists());
}

#[tokio::test]
async fn databases_of_any_name_are_made_once() {
    let (_root, data) = place();
    let pg = start(quick(&data)).await.unwrap();
    let name = "we\"ird näme/?@:%";
    assert!(pg.ensure_database(name).await.unwrap());
    assert!(!pg.ensure_database(name).await.unwrap());
    assert_eq!(ask(&pg, name, "SELECT current_database()").await, name);
    pg.stop(StopMode::Immediate).await.unwrap();
}

#[tokio::test]
async fn a_running_server_is_reused_and_keeps_its_url_over_a_stop() {
    let (_root, data) = place();
    let mut kept = quick(&data);
    kept.lifetime = Lifetime::Keep;
    let first = start(kept).await.unwrap();
    let (pid, url) = (first.pid(), first.url("postgres"));
    drop(first);
    let second = start(quick(&data)).await.unwrap();
    assert!(second.is_reused());
    assert_eq!((second.pid(), second.url("postgres")), (pid, url.clone()));
    second.stop(StopMode::Fast).await.unwrap();
    assert!(!alive(pid));
    let third = start(quick(&data)).await.unwrap();
    assert_ne!(third.pid(), pid);
    assert_eq!(third.url("postgres"), url, "same port, same password");
    third.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn two_starts_at_once_give_one_server() {
    let (_root, data) = place();
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..3 {
        starts.spawn(start(quick(&data)));
    }
    let servers: Vec<PrivatePg> = starts
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(servers.iter().all(|pg| pg.pid() == servers[0].pid()));
    assert_eq!(servers.iter().filter(|pg| !pg.is_reused()).count(), 1);
    for pg in servers {
        pg.stop(StopMode::Immediate).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data_beside_a_busy_backend() {
    let (_root, data) = place();
    let mut settings = quick(&data);
    // Without it, what was committed in the last moments is lost with the process.
    settings.extra = vec![("synchronous_commit".into(), "on".into())];
    let mut pg = start(settings).await.unwrap();
    let url = pg.url("postgres");
    ask(&pg, "postgres", "CREATE TABLE kept AS SELECT 42 AS n").await;
    // A backend that computes does not notice that its postmaster died.
    let mut tasks = tokio::task::JoinSet::new();
    let busy = url.clone();
    tasks.spawn(
        async move { try_ask(&busy, "SELECT count(*) FROM generate_series(1, 1e12)").await },
    );
    let seen =
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%1e12%' AND pid <> pg_backend_pid()";
    let backend: i32 = wait::until(LIMIT, PAUSE, "the busy backend", async || {
        ask(&pg, "postgres", seen).await.parse().ok()
    })
    .await
    .unwrap();

    pg.kill_hard(Death::Kill).await.unwrap();
    assert!(!pg.is_alive());
    assert!(alive(backend));
    pg.restart(StopMode::Fast).await.unwrap();
    assert!(!alive(backend));
    assert_eq!(pg.url("postgres"), url, "the URL stays true");
    assert_eq!(ask(&pg, "postgres", "SELECT n FROM kept").await, "42");
    assert!(tasks.join_next().await.unwrap().unwrap().is_err());

    pg.kill_hard(Death::Quit).await.unwrap();
    drop(pg);
    let pg = start(quick(&data)).await.unwrap();
    assert_eq!(ask(&pg, "postgres", "SELECT n FROM kept").await, "42");
    pg.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_another_live_process_is_stale() {
    let (_root, data) = place();
    let mut pg = start(quick(&data)).await.unwrap();
    let pid_file = data.join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    pg.kill_hard(Death::Kill).await.unwrap();
    drop(pg);
    // A process of the same user: PostgreSQL itself would take it for its own.
    let owner = fs::metadata(&data).unwrap();
    let mut other = Command::new("sleep");
    other.arg("600").uid(owner.uid()).gid(owner.gid());
    let mut other = other.stdin(Stdio::null()).spawn().unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(&pid_file, format!("{}\n{rest}", other.id())).unwrap();

    let again = start(quick(&data)).await;
    let still_there = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    let again = again.unwrap();
    assert!(still_there, "the other process is left alone");
    assert!(!again.is_reused());
    again.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn an_interrupted_initdb_is_done_again() {
    let (root, data) = place();
    let partial = root.path().join("data.partial-abc");
    fs::create_dir_all(partial.join("data/base")).unwrap();
    fs::write(partial.join("data/PG_VERSION"), "15\n").unwrap();
    fs::create_dir(&data).unwrap();
    let pg = start(quick(&data)).await.unwrap();
    assert!(!partial.exists());
    pg.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn other_majors_and_foreign_clusters_are_refused() {
    let (root, data) = place();
    let pg = start(quick(&data)).await.unwrap();
    pg.stop(StopMode::Fast).await.unwrap();
    let version = fs::read_to_string(data.join("PG_VERSION")).unwrap();
    fs::write(data.join("PG_VERSION"), "12\n").unwrap();
    let text = start(quick(&data)).await.unwrap_err().to_string();
    assert!(text.contains("was made by PostgreSQL 12"), "{text}");
    assert!(text.contains("only 15 to 18 are supported"), "{text}");
    fs::write(data.join("PG_VERSION"), &version).unwrap();
    fs::remove_file(root.path().join("data.password")).unwrap();
    let text = start(quick(&data)).await.unwrap_err().to_string();
    assert!(text.contains("did not make it"), "{text}");
}

#[tokio::test]
async fn missing_binaries_are_told_with_the_folder() {
    let (root, data) = place();
    let mut settings = quick(&data);
    settings.bin_dir = Some(root.path().join("nowhere"));
    let text = start(settings).await.unwrap_err().to_string();
    assert!(text.contains("nowhere"), "{text}");
    assert!(
        text.contains("`initdb` and `postgres` are not both there"),
        "{text}"
    );
}

#[tokio::test]
async fn a_failed_start_shows_the_servers_last_words() {
    let (_root, data) = place();
    let mut settings = quick(&data);
    settings.extra = vec![("shared_buffers".into(), "a lot".into())];
    let text = start(settings).await.unwrap_err().to_string();
    assert!(text.contains("data.log"), "{text}");
    assert!(
        text.contains("invalid value for parameter \"shared_buffers\""),
        "{text}"
    );
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_server() {
    let (_root, data) = place();
    start(quick(&data))
        .await
        .unwrap()
        .stop(StopMode::Fast)
        .await
        .unwrap();
    let pid_file = data.join("postmaster.pid");
    // Given up as soon as there is a server process, which is not ready yet.
    let pid: i32 = tokio::select! {
        biased;
        pid = wait::until(LIMIT, Duration::from_millis(1), "a server process", async || {
            fs::read_to_string(&pid_file).ok()?.lines().next()?.parse().ok()
        }) => pid.unwrap(),
        _ = start(quick(&data)) => panic!("ready before its pid file was seen"),
    };
    until_gone(pid).await;
}

#[tokio::test]
async fn a_full_server_is_reused_all_the_same() {
    let (_root, data) = place();
    let mut settings = quick(&data);
    settings.extra = vec![
        ("max_connections".into(), "3".into()),
        ("superuser_reserved_connections".into(), "0".into()),
        ("max_wal_senders".into(), "0".into()),
    ];
    let pg = start(settings).await.unwrap();
    let mut seats = Vec::new();
    while let Ok(seat) = tokio_postgres::connect(&pg.url("postgres"), NoTls).await {
        seats.push(seat);
    }
    assert!(!seats.is_empty());
    let again = start(quick(&data)).await.unwrap();
    assert_eq!(again.pid(), pg.pid());
    drop(seats);
    pg.stop(StopMode::Fast).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_replaced_unless_it_was_demanded() {
    let (root, data) = place();
    let pg = start(quick(&data)).await.unwrap();
    let port = pg.port();
    pg.stop(StopMode::Fast).await.unwrap();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut settings = quick(&data);
    settings.port = Some(port);
    let error = start(settings).await.unwrap_err();
    assert!(matches!(error, PrivatePgError::Start { .. }), "{error}");
    assert!(
        error.to_string().contains("Address already in use"),
        "{error}"
    );
    let other = start(quick(&data)).await.unwrap();
    assert_ne!(other.port(), port);
    let kept = fs::read_to_string(root.path().join("data.port")).unwrap();
    assert_eq!(kept.trim(), other.port().to_string());
    other.stop(StopMode::Fast).await.unwrap();
    drop(taken);
}

#[tokio::test]
async fn a_closed_folder_on_the_way_is_named() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (root, _) = place();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let error = start(quick(&root.path().join("data"))).await.unwrap_err();
    assert!(
        matches!(error, PrivatePgError::Unreachable { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains(&root.path().display().to_string())
    );
}

#[tokio::test]
async fn a_dropped_server_ends_or_vanishes_as_told() {
    for (lifetime, stays) in [(Lifetime::Process, true), (Lifetime::Throwaway, false)] {
        let (root, data) = place();
        let mut settings = quick(&data);
        settings.lifetime = lifetime;
        let mut pg = start(settings).await.unwrap();
        pg.restart(StopMode::Fast).await.unwrap();
        let pid = pg.pid();
        drop(pg);
        until_gone(pid).await;
        wait::until(LIMIT, PAUSE, "the files to be dealt with", async || {
            let settled = if stays {
                !data.join("postmaster.pid").exists()
            } else {
                names_in(root.path()).is_empty()
            };
            settled.then_some(())
        })
        .await
        .unwrap();
        assert_eq!(data.exists(), stays);
    }
}

#[tokio::test]
async fn a_throwaway_server_leaves_nothing_after_stop() {
    let (root, data) = place();
    let mut settings = quick(&data);
    settings.lifetime = Lifetime::Throwaway;
    let pg = start(settings).await.unwrap();
    pg.stop(StopMode::Immediate).await.unwrap();
    assert!(names_in(root.path()).is_empty());
}

const CHILD_DATA: &str = "ODF_TEST_PRIVATE_PG_DATA";

/// Not a test by itself: the process that `a_killed_owner_takes_its_server_along` kills.
#[tokio::test]
async fn owner_process() {
    let Some(data) = std::env::var_os(CHILD_DATA) else {
        return;
    };
    let mut settings = quick(Path::new(&data));
    settings.lifetime = Lifetime::Process;
    let pg = start(settings).await.unwrap();
    fs::write(Path::new(&data).with_extension("up"), pg.pid().to_string()).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_takes_its_server_along() {
    let (root, data) = place();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["owner_process", "--exact"])
        .env(CHILD_DATA, &data)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let up = root.path().join("data.up");
    let pid: i32 = wait::until(LIMIT, PAUSE, "the owner's server", async || {
        fs::read_to_string(&up).ok()?.parse().ok()
    })
    .await
    .unwrap();
    assert!(alive(pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    until_gone(pid).await;
}

#[test]
fn the_installed_server_is_found() {
    let found = discover::all();
    let best = common::private_pg::discover().unwrap();
    assert!(discover::MAJORS.contains(&best.major));
    assert!(best.bin_dir.join("initdb").exists());
    if std::env::var_os(discover::BIN_VARIABLE).is_none() {
        assert_eq!(found.usable.first(), Some(&best));
    }
}
