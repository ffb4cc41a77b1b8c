//! Running a command into memory, and taking out of its answer what differs from run to run.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use common::domain::{AttemptResult, WorkItem};
use common::store::Settled;
use coordinator::cli::{Cli, Exit, Format, Output, run_into};
use serde_json::Value;

use crate::harness::{Role, TestDb, TestWorker};

/// A stream that is kept.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a command ended and what it said.
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Exit, stdout and stderr with everything that differs from run to run masked.
    pub(crate) fn shown(&self) -> String {
        let err = if self.err.is_empty() {
            String::new()
        } else {
            format!("--- stderr\n{}", self.err)
        };
        masked(&format!("{}{err}--- exit {}\n", self.out, self.exit as u8))
    }

    /// stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs a command with its words, as a pipe would see it.
pub(crate) async fn run_words(url: Option<&str>, words: &[&str]) -> Ran {
    let (out, err) = (Kept::default(), Kept::default());
    let exit = run_kept(url, words, out.clone(), err.clone()).await;
    Ran {
        exit,
        out: out.text(),
        err: err.text(),
    }
}

/// As [`run_words`], into streams that can be looked at meanwhile.
pub(crate) async fn run_kept(url: Option<&str>, words: &[&str], out: Kept, err: Kept) -> Exit {
    let mut all = vec!["coordinator"];
    all.extend(url.iter().flat_map(|url| ["--database-url", *url]));
    all.extend(words);
    let mut cli = Cli::try_parse_from(&all).unwrap_or_else(|error| panic!("{error}"));
    if url.is_none() {
        // Whatever the environment of the test run says.
        cli.global.database_url = None;
    }
    let format = cli.global.output;
    assert!(format != Format::Json || all.contains(&"json"));
    let mut output = Output::plain(format, Box::new(out), Box::new(err));
    output.quiet = cli.global.quiet;
    run_into(cli, output).await
}

/// Runs a command, its words apart by spaces, under a role.
pub(crate) async fn run(db: &TestDb, role: Role, line: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    run_words(Some(&db.url(role)), &words).await
}

/// Runs a command as an operator and demands that it succeeds.
pub(crate) async fn ok(db: &TestDb, line: &str) -> String {
    let ran = run(db, Role::Operator, line).await;
    assert_eq!(ran.exit, Exit::Ok, "{line}: {}{}", ran.out, ran.err);
    ran.out
}

/// Ends an attempt and demands that it was still the worker's to end.
pub(crate) async fn end(worker: &TestWorker, item: &WorkItem, result: AttemptResult) {
    assert_eq!(worker.settle(item, result).await, Settled::Applied);
}

/// Times, speeds and durations replaced by what they are; columns two spaces apart.
pub(crate) fn masked(text: &str) -> String {
    text.lines().map(|line| masked_line(line) + "\n").collect()
}

fn masked_line(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut words: Vec<String> = Vec::new();
    let mut gaps: Vec<usize> = Vec::new();
    for part in line.trim_start().split(' ') {
        match (part.is_empty(), gaps.last_mut()) {
            (true, Some(gap)) => *gap = 2,
            _ => {
                words.push(part.to_owned());
                gaps.push(1);
            }
        }
    }
    let mut text = " ".repeat(indent);
    let mut index = 0;
    while index < words.len() {
        let (shown, taken) = mask(&words[index..]);
        text.push_str(&shown);
        index += taken;
        if index < words.len() {
            text.push_str(&" ".repeat(gaps[index - 1]));
        }
    }
    text
}

/// What stands for the first words, and how many they are.
fn mask(words: &[String]) -> (String, usize) {
    let plain = |word: &str| word.trim_matches(|c: char| ",;:()".contains(c)).to_owned();
    let end = |word: &str| {
        word.chars()
            .rev()
            .take_while(|c| ",;:)".contains(*c))
            .collect::<String>()
            .chars()
            .rev()
            .collect::<String>()
    };
    let first = plain(&words[0]);
    let second = words.get(1).map(|word| plain(word)).unwrap_or_default();
    if is_shape(&first, "dddd-dd-dd") && is_shape(&second, "dd:dd:dd") {
        return (format!("<time>{}", end(&words[1])), 2);
    }
    if is_shape(&first, "dd:dd:dd") || is_shape(&first, "dd:dd") {
        return (format!("<time>{}", end(&words[0])), 1);
    }
    if first == "ETA" {
        let taken = words
            .iter()
            .position(|word| word == "|")
            .unwrap_or(words.len());
        return ("ETA <time>".to_owned(), taken);
    }
    let number = first.parse::<f64>().is_ok();
    if number && second.starts_with("chunks/") {
        return (format!("<speed>{}", end(&words[1])), 2);
    }
    if number && second.ends_with("/day") {
        return ("<volume>".to_owned(), 2);
    }
    if number && ["ms", "s", "min", "h"].contains(&second.as_str()) {
        let more = words.get(2).is_some_and(|w| w.parse::<f64>().is_ok())
            && words
                .get(3)
                .is_some_and(|w| ["s", "min", "h"].contains(&plain(w).as_str()));
        let taken = if more { 4 } else { 2 };
        return (format!("<span>{}", end(&words[taken - 1])), taken);
    }
    (words[0].clone(), 1)
}

fn is_shape(word: &str, shape: &str) -> bool {
    word.len() == shape.len()
        && word
            .chars()
            .zip(shape.chars())
            .all(|(c, s)| if s == 'd' { c.is_ascii_digit() } else { c == s })
}

/// A JSON answer, pretty, with times, speeds and figures of this machine masked.
pub(crate) fn masked_json(mut value: Value) -> String {
    mask_value(&mut value);
    serde_json::to_string_pretty(&value).unwrap()
}

fn mask_value(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let volatile = name.ends_with("_at")
                    || [
                        "now",
                        "since",
                        "eta",
                        "at",
                        "took_ms",
                        "digest",
                        "chunks_per_second",
                        "bytes_per_second",
                        "text",
                    ]
                    .contains(&name.as_str())
                        && !field.is_object();
                match field {
                    Value::Null => {}
                    Value::String(text) if volatile => {
                        *text = if name == "text" {
                            masked(text).trim_end().to_owned()
                        } else {
                            "<masked>".to_owned()
                        }
                    }
                    Value::Number(_) if volatile => *field = "<masked>".into(),
                    other => mask_value(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_value),
        _ => {}
    }
}
