//! What the compiler does not check: which room may use what, and how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

const LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of our own below a folder that has one of these endings.
fn files(below: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with('.') || name == "target" || name == "node_modules" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The lines of code of a file that are no comments, with their numbers.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let comment = if path.extension().is_some_and(|e| e == "sql") {
        "--"
    } else {
        "//"
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with(comment))
        .map(|(n, line)| (n + 1, line.to_owned()))
        .collect()
}

fn demand_nothing(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn uses(below: &str, words: &[&str]) -> Vec<String> {
    files(below, &[".rs"])
        .iter()
        .flat_map(|path| {
            code(path)
                .into_iter()
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(n, line)| format!("{}:{n}: {}", path.display(), line.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn pure_rooms_are_pure() {
    let impure = [
        "tokio",
        "sqlx",
        "tokio_postgres",
        "tracing::",
        "std::fs",
        "std::net",
        "SystemTime::now",
        "Instant::now",
        "Utc::now",
        "rand::",
    ];
    for room in [
        "common/src/domain",
        "common/src/policy",
        "common/src/calendar",
    ] {
        let found: Vec<String> = uses(room, &impure)
            .into_iter()
            // Their own tests may read a clock.
            .filter(|line| !in_tests(line))
            .collect();
        demand_nothing(
            &found,
            &format!("{room} decides without a clock, a network or a log"),
        );
    }
}

/// Whether a `path:line: text` lies in a test module at the end of its file.
fn in_tests(place: &str) -> bool {
    let mut parts = place.splitn(3, ':');
    let path = Path::new(parts.next().unwrap());
    let line: usize = parts.next().unwrap().parse().unwrap();
    let text = fs::read_to_string(path).unwrap();
    let tests = text.lines().position(|l| l.trim() == "#[cfg(test)]");
    tests.is_some_and(|at| line > at + 1)
        || path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

#[test]
fn sqlx_stays_in_the_coordinator() {
    demand_nothing(
        &uses("common", &["use sqlx", " sqlx::", "(sqlx::"]),
        "common has no sqlx",
    );
    demand_nothing(
        &uses("worker", &["use sqlx", " sqlx::", "(sqlx::"]),
        "worker has no sqlx",
    );
    for manifest in ["common/Cargo.toml", "worker/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        assert!(!text.contains("sqlx"), "{manifest}");
    }
}

#[test]
fn the_daemons_do_not_know_each_other() {
    demand_nothing(
        &uses("worker/src", &["coordinator::"]),
        "a worker needs no coordinator",
    );
    demand_nothing(
        &uses("coordinator/src", &["worker::"]),
        "a coordinator needs no worker",
    );
    demand_nothing(
        &uses("common/src", &["coordinator::", "worker::"]),
        "common knows neither",
    );
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = ["common", "coordinator", "worker", "tests", "migrations"]
        .iter()
        .flat_map(|below| files(below, &[".rs", ".sql", ".sh"]))
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines > LINES).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    demand_nothing(&long, &format!("at most {LINES} lines a file"));
}

#[test]
fn nothing_is_left_half_done() {
    // Written in two parts, so that this file does not find itself.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["HA", "CK:"],
        ["todo", "!("],
        ["unimplemented", "!("],
        ["dbg", "!("],
    ];
    let found: Vec<String> = ["common", "coordinator", "worker", "tests", "migrations"]
        .iter()
        .flat_map(|below| files(below, &[".rs", ".sql", ".sh"]))
        .flat_map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            text.lines()
                .enumerate()
                .filter(|(_, line)| words.iter().any(|parts| line.contains(&parts.concat())))
                .map(|(n, line)| format!("{}:{}: {}", path.display(), n + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    demand_nothing(&found, "finish it or leave it out");
    let ignored = uses("tests", &[["#[ign", "ore"].concat().as_str()]);
    demand_nothing(&ignored, "a test that is not run is no test");
}

#[test]
fn modules_say_what_they_own() {
    let silent: Vec<String> = ["common/src", "coordinator/src", "worker/src", "tests"]
        .iter()
        .flat_map(|below| files(below, &[".rs"]))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    demand_nothing(&silent, "every file begins with what it owns");
}

#[test]
fn the_words_of_tests_stay_out_of_programs() {
    for below in ["common/src", "coordinator/src", "worker/src"] {
        let found: Vec<String> = uses(below, &[".unwrap()", "panic!("])
            .into_iter()
            .filter(|line| !in_tests(line))
            .collect();
        demand_nothing(
            &found,
            "a program tells what went wrong instead of stopping",
        );
    }
}
