//! `worker doctor`: looks at everything that a worker needs, one line each, and changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::domain::size::format_bytes;
use common::store::{ControlDb, StoreError};

use crate::daemon::config::{Config, MIN_FREE, check_script_dir, make_private_dir};
use crate::daemon::state::{NameLock, StateError};
use crate::daemon::{free_bytes, start_guard};

/// A difference between the clocks beyond which a person should know.
const SKEW: f64 = 2000.0;
/// Script files that are looked at.
const MANY: usize = 1000;

/// What came of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// The worker runs; a person should know.
    Warning,
    /// The worker will not run.
    Failed,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) subject: &'static str,
    /// What came of it.
    pub(crate) verdict: Verdict,
    /// What was found, with a hint where it is not as it should be.
    pub(crate) found: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Failed => "FAIL",
        };
        write!(f, "{verdict}  {:<16} {}", self.subject, self.found)
    }
}

fn ok(subject: &'static str, found: impl Into<String>) -> Check {
    check(subject, Verdict::Ok, found)
}

fn check(subject: &'static str, verdict: Verdict, found: impl Into<String>) -> Check {
    Check {
        subject,
        verdict,
        found: found.into(),
    }
}

fn failed(subject: &'static str, found: impl ToString) -> Check {
    check(subject, Verdict::Failed, found.to_string())
}

/// Looks at everything.
pub(crate) async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = database(config).await;
    checks.extend(scripts(&config.script_dir));
    checks.push(directory(&config.state_dir, "state", "--state-dir"));
    checks.push(directory(&config.log_dir, "log", "--log-dir"));
    checks.push(name(config));
    checks.push(guard(config).await);
    checks.push(memory_limit());
    checks
}

async fn database(config: &Config) -> Vec<Check> {
    let db = match ControlDb::new(config.database_url.clone(), 1, "odf-worker doctor") {
        Ok(db) => db,
        Err(error) => return vec![failed("database", error)],
    };
    // Once to connect, once to measure.
    let first = db.introduce().await;
    let sent = SystemTime::now();
    let known = match first.and(db.introduce().await) {
        Ok(known) => known,
        Err(error) => return vec![failed("database", error)],
    };
    let (major, minor) = (known.server_version / 10_000, known.server_version % 10_000);
    let mut checks = vec![ok(
        "database",
        format!("PostgreSQL {major}.{minor} answers user {}", known.user),
    )];
    checks.push(skew(sent, SystemTime::now(), known.now_ms));
    if !known.schema {
        checks.push(failed(
            "schema",
            "the database has no schema odf; hint: run 'coordinator init'",
        ));
        return checks;
    }
    checks.push(match (known.may_claim, known.may_read) {
        (Some(true), false) => ok("role", "may do what a worker does and read no table"),
        (Some(true), true) => check(
            "role",
            Verdict::Warning,
            format!(
                "user {} may read tables as well; hint: give workers a login with role odf_worker alone",
                known.user
            ),
        ),
        (_, _) => failed(
            "role",
            format!(
                "user {} may not claim; hint: as an administrator: grant odf_worker to \"{}\"",
                known.user, known.user
            ),
        ),
    });
    if known.may_claim == Some(true) {
        // No chunk has that name; the answer says that the functions of this release are there.
        checks.push(match db.peek("?/?").await {
            Err(StoreError::NotFound(_)) | Ok(_) => ok("protocol", "the functions answer"),
            Err(error) => failed("protocol", error),
        });
    }
    checks
}

fn skew(sent: SystemTime, received: SystemTime, server_ms: f64) -> Check {
    let since = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs_f64()
            * 1000.0
    };
    let here = f64::midpoint(since(sent), since(received));
    let ahead = here - server_ms;
    let found = format!(
        "this host is {:.1} s {} the server",
        ahead.abs() / 1000.0,
        if ahead < 0.0 { "behind" } else { "ahead of" }
    );
    if ahead.abs() > SKEW {
        let hint =
            "leases do not depend on it, times in logs do; hint: synchronise this host's clock";
        check("clock", Verdict::Warning, format!("{found}: {hint}"))
    } else {
        ok("clock", found)
    }
}

fn scripts(dir: &Path) -> Vec<Check> {
    match check_script_dir(dir) {
        Err(error) => return vec![failed("scripts", error)],
        Ok(Some(warning)) => return vec![check("scripts", Verdict::Warning, warning)],
        Ok(None) => {}
    }
    let mut files = Vec::new();
    collect(dir, 0, &mut files);
    let mut checks = vec![ok(
        "scripts",
        format!("{} files in {}", files.len(), dir.display()),
    )];
    checks.extend(files.iter().filter_map(|file| {
        let problem = script_problem(file)?;
        Some(check(
            "script",
            Verdict::Warning,
            format!("{}: {problem}", file.display()),
        ))
    }));
    checks
}

fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if files.len() >= MANY || entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth < 5 {
                collect(&path, depth + 1, files);
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
}

/// Why a file that looks like a script would not start; data beside scripts is none of our business.
fn script_problem(path: &Path) -> Option<String> {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    let mut start = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    let executable = file.metadata().ok()?.permissions().mode() & 0o111 != 0;
    file.take(256).read_to_end(&mut start).ok()?;
    let interpreter = interpreter_of(&start)?;
    if !executable {
        return Some("it begins with #! and is not executable; hint: chmod +x".to_owned());
    }
    let found = if interpreter.starts_with('/') {
        Path::new(&interpreter).exists()
    } else {
        std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|dir| dir.join(&interpreter).is_file())
        })
    };
    (!found).then(|| {
        format!("its interpreter {interpreter} is not there; hint: install it or add it to PATH")
    })
}

/// What a `#!` line runs; the program behind `env` where that is used.
fn interpreter_of(start: &[u8]) -> Option<String> {
    let line = start.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if Path::new(first).file_name()? == "env" {
        let program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        return Some(program.to_owned());
    }
    Some(first.to_owned())
}

fn directory(path: &Path, what: &'static str, flag: &'static str) -> Check {
    if let Err(error) = make_private_dir(path, what, flag) {
        return failed(what, error);
    }
    match free_bytes(path) {
        Some(free) if free < MIN_FREE => failed(
            what,
            format!(
                "{} has {} free, {} wanted; hint: make room, a worker claims nothing until then",
                path.display(),
                format_bytes(free),
                format_bytes(MIN_FREE)
            ),
        ),
        Some(free) => ok(
            what,
            format!(
                "{} is writable, {} free",
                path.display(),
                format_bytes(free)
            ),
        ),
        None => check(what, Verdict::Warning, "its free space cannot be told"),
    }
}

fn name(config: &Config) -> Check {
    match NameLock::take(&config.state_dir, &config.name) {
        Ok(_) => ok("name", format!("{} is free on this machine", config.name)),
        Err(error @ StateError::Taken { .. }) => check("name", Verdict::Warning, error.to_string()),
        Err(error) => failed("name", error),
    }
}

async fn guard(config: &Config) -> Check {
    // A lock of its own, so that a running worker is not in the way.
    let mut own = config.clone();
    own.name = format!("doctor-{}", std::process::id());
    let started = start_guard(&own).await;
    let check = match started {
        Ok(guard) => {
            guard.shutdown().await;
            ok("guard", "starts and ends")
        }
        Err(error) => failed("guard", error),
    };
    let lock = own.guard_lock();
    for path in [lock.clone(), scripts_lock(&lock)] {
        let _absent = std::fs::remove_file(path);
    }
    check
}

fn scripts_lock(lock: &Path) -> PathBuf {
    let mut name = lock.as_os_str().to_owned();
    name.push(".scripts");
    PathBuf::from(name)
}

/// What a control group allows this process; a script that exceeds it is killed as too big.
fn memory_limit() -> Check {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = own.lines().find_map(|line| line.strip_prefix("0::"));
    let limit = group.and_then(|group| {
        let path = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
        std::fs::read_to_string(path.join("memory.max")).ok()
    });
    match limit.as_deref().map(str::trim).map(str::parse::<u64>) {
        Some(Ok(bytes)) => ok(
            "memory",
            format!(
                "limited to {} for the worker and its scripts",
                format_bytes(bytes)
            ),
        ),
        _ => ok("memory", "no limit by a control group"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn interpreters_are_read_from_the_first_line() {
        let of = |text: &str| interpreter_of(text.as_bytes());
        assert_eq!(of("#!/bin/sh -e\nx"), Some("/bin/sh".to_owned()));
        assert_eq!(of("#! /usr/bin/env python3\n"), Some("python3".to_owned()));
        assert_eq!(
            of("#!/usr/bin/env -S A=1 perl -w\n"),
            Some("perl".to_owned())
        );
        assert_eq!(of("id,name\n"), None);
    }

    #[test]
    fn scripts_that_would_not_start_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            script_problem(&path)
        };
        assert_eq!(file("good", "#!/bin/sh\n", 0o755), None);
        assert_eq!(file("data.csv", "a,b\n", 0o644), None);
        assert!(
            file("closed", "#!/bin/sh\n", 0o644)
                .unwrap()
                .contains("chmod")
        );
        let lost = file("lost", "#!/usr/bin/env no-such-interpreter\n", 0o755).unwrap();
        assert!(lost.contains("no-such-interpreter"), "{lost}");
        assert_eq!(scripts(dir.path()).len(), 3);
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(skew(at(100), at(102), 101_500.0).verdict, Verdict::Ok);
        let far = skew(at(100), at(100), 160_000.0);
        assert_eq!(far.verdict, Verdict::Warning);
        assert!(far.found.contains("60.0 s behind"), "{far}");
    }
}
