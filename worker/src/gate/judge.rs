//! From what was found to the answers: pure, so that every answer can be tested as a plain function.
//!
//! The first no ends the asking. Each no has the class that decides what happens next.

use common::domain::{
    Answer, Bounds, FailureClass, Finding, InputChunk, Method, Question, Validation, Verdict,
};
use common::flow::model::Verify;

use super::probe::{DatabaseFound, FileFound, ProbeError};

/// What was found of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// In a file tree.
    File {
        /// The path, for people.
        path: String,
        /// What is there.
        file: Result<FileFound, ProbeError>,
        /// What the tree says of its environment.
        environment: Result<Option<String>, ProbeError>,
    },
    /// In a database.
    Database {
        /// The table, as declared.
        table: Option<String>,
        /// What answers.
        database: Result<DatabaseFound, ProbeError>,
    },
    /// In a file tree, but no file of ours: a source whose chunks are no files.
    Tree {
        /// What the tree says of its environment.
        environment: Result<Option<String>, ProbeError>,
    },
    /// Where only scripts can look.
    Unknown,
}

/// What the declaration says of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Declared<'a> {
    /// The environment label of its connection.
    pub(crate) environment: Option<&'a str>,
    /// Whether what nothing vouches for may be read.
    pub(crate) accept_unvalidated: bool,
}

/// A verdict, and where it is a no, what should happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) class: Option<FailureClass>,
    pub(crate) hint: String,
}

type No = (Finding, FailureClass, String);

fn finding(question: Question, answer: Answer, method: Method) -> Finding {
    Finding {
        question,
        answer,
        method,
        expected: String::new(),
        found: String::new(),
    }
}

fn yes(question: Question, method: Method, found: String) -> Finding {
    Finding {
        found,
        ..finding(question, Answer::Yes, method)
    }
}

fn no(question: Question, method: Method, expected: String, found: String) -> Finding {
    Finding {
        question,
        answer: Answer::No,
        method,
        expected,
        found,
    }
}

/// The five answers of one input. Ready and safe were decided by the claim, which locked the
/// input's row: a lease of its consumer exists only where both are a yes.
pub(crate) fn judge(input: &InputChunk, declared: Declared<'_>, found: &Found) -> Judgement {
    let asked = [
        ready as fn(&InputChunk, Declared<'_>, &Found) -> Result<Finding, No>,
        right_data,
        right_location,
        validated,
        safe,
    ];
    let mut verdict = Verdict {
        input: format!("{}/{}", input.dataset, input.key),
        findings: Vec::with_capacity(asked.len()),
    };
    for ask in asked {
        match ask(input, declared, found) {
            Ok(finding) => verdict.findings.push(finding),
            Err((finding, class, hint)) => {
                verdict.findings.push(finding);
                return Judgement {
                    verdict,
                    class: Some(class),
                    hint,
                };
            }
        }
    }
    Judgement {
        verdict,
        class: None,
        hint: String::new(),
    }
}

fn is_source(input: &InputChunk) -> bool {
    input.attempt.is_none()
}

fn ready(input: &InputChunk, _: Declared<'_>, _: &Found) -> Result<Finding, No> {
    if input.generation < 1 {
        let found = no(
            Question::Ready,
            Method::Published,
            "a published generation".to_owned(),
            "none".to_owned(),
        );
        return Err((found, FailureClass::Gate, String::new()));
    }
    Ok(match (input.attempt, &input.published_by) {
        (Some(attempt), by) => yes(
            Question::Ready,
            Method::Published,
            format!(
                "generation {} by attempt {attempt} on {}",
                input.generation,
                by.as_deref().unwrap_or("an unknown worker")
            ),
        ),
        (None, _) => yes(
            Question::Ready,
            Method::Source,
            format!("generation {}", input.generation),
        ),
    })
}

/// The size and, where bytes were read, the SHA-256 that must be found.
fn published_bytes(input: &InputChunk) -> (Option<u64>, Option<&str>) {
    if let (true, Bounds::File { bytes, .. }) = (is_source(input), &input.bounds) {
        return (Some(*bytes), None);
    }
    let bytes = input.bytes.and_then(|bytes| u64::try_from(bytes).ok());
    let sum = input.checksum.as_deref();
    (bytes, sum.and_then(|sum| sum.strip_prefix("sha256:")))
}

fn right_data(input: &InputChunk, _: Declared<'_>, found: &Found) -> Result<Finding, No> {
    let pinned = || {
        let found = format!(
            "generation {}, {}",
            input.generation,
            input.bounds.in_words()
        );
        Ok(yes(Question::RightData, Method::Pinned, found))
    };
    let Found::File {
        file: Ok(file),
        path,
        ..
    } = found
    else {
        // Where it cannot be seen is the next question's to say.
        return pinned();
    };
    let (bytes, sum) = published_bytes(input);
    if bytes.is_none() && sum.is_none() {
        return pinned();
    }
    let short = |sum: &str| sum.get(..16).unwrap_or(sum).to_owned();
    let words = |bytes: Option<u64>, sum: Option<&str>| {
        let mut parts: Vec<String> = bytes.iter().map(|bytes| format!("{bytes} bytes")).collect();
        parts.extend(sum.map(|sum| format!("sha256 {}", short(sum))));
        parts.join(", ")
    };
    // A probe that was asked for a checksum and brings none has not looked.
    let read = file
        .sha256
        .as_deref()
        .or_else(|| (verify_of(input) == Verify::Checksum).then_some("that was not computed"));
    let sums = sum.zip(read);
    let method = if sums.is_some() {
        Method::Sha256
    } else {
        Method::Size
    };
    let same = bytes.is_none_or(|bytes| bytes == file.bytes)
        && sums.is_none_or(|(published, found)| published.eq_ignore_ascii_case(found));
    let is = words(Some(file.bytes), file.sha256.as_deref());
    if same {
        return Ok(yes(Question::RightData, method, is));
    }
    let hint = if is_source(input) {
        format!(
            "the file has changed since it was planned: coordinator replan {}",
            input.dataset
        )
    } else {
        format!(
            "it is not what was published: coordinator resubmit {}/{} makes it again",
            input.dataset, input.key
        )
    };
    let expected = words(bytes, sum.filter(|_| sums.is_some()));
    let found = no(
        Question::RightData,
        method,
        expected,
        format!("{is} at {path}"),
    );
    Err((found, FailureClass::Refused, hint))
}

/// The declared environment against what the place says of itself.
fn environment(declared: Option<&str>, says: Option<&str>, method: Method) -> Result<String, No> {
    match (declared, says) {
        (Some(declared), Some(says)) if declared != says => {
            let found = no(
                Question::RightLocation,
                method,
                format!("environment {declared}"),
                format!("environment {says}"),
            );
            let hint =
                "the place is marked as another environment's: mend the connection, or its mark";
            Err((found, FailureClass::Refused, hint.to_owned()))
        }
        (_, Some(says)) => Ok(format!("environment {says}")),
        (_, None) => Ok("no environment mark".to_owned()),
    }
}

/// A place that could not be looked at, as a no of the right class.
fn unseen(error: &ProbeError, method: Method, expected: String) -> No {
    let (found, class, hint) = match error {
        ProbeError::Missing => (
            "nothing there".to_owned(),
            FailureClass::Gate,
            "asked again later; if it is gone for good, resubmit the input".to_owned(),
        ),
        ProbeError::NotAFile(what) => (
            (*what).to_owned(),
            FailureClass::Refused,
            "put the published file back, or resubmit the input".to_owned(),
        ),
        ProbeError::Host(problem) => (problem.clone(), FailureClass::Host, String::new()),
        ProbeError::Away(problem) | ProbeError::Unable(problem) => {
            (problem.clone(), FailureClass::Outage, String::new())
        }
        ProbeError::Stopped => (
            "the attempt was stopped".to_owned(),
            FailureClass::Gate,
            String::new(),
        ),
    };
    (
        no(Question::RightLocation, method, expected, found),
        class,
        hint,
    )
}

fn right_location(
    input: &InputChunk,
    declared: Declared<'_>,
    found: &Found,
) -> Result<Finding, No> {
    if let Some(published) = input
        .connection
        .as_deref()
        .filter(|published| *published != input.at.connection)
    {
        let found = no(
            Question::RightLocation,
            Method::Pinned,
            format!("connection {}", input.at.connection),
            format!("published under connection {published}"),
        );
        let hint = format!(
            "the data set was declared elsewhere since: coordinator resubmit {}/{}",
            input.dataset, input.key
        );
        return Err((found, FailureClass::Refused, hint));
    }
    match found {
        Found::File {
            path,
            file,
            environment: says,
        } => {
            if let Err(error) = file {
                return Err(unseen(error, Method::Stat, format!("a file at {path}")));
            }
            let says = says
                .as_ref()
                .map_err(|error| unseen(error, Method::Stat, format!("a file at {path}")))?;
            let mark = environment(declared.environment, says.as_deref(), Method::Stat)?;
            Ok(yes(
                Question::RightLocation,
                Method::Stat,
                format!("{path}, {mark}"),
            ))
        }
        Found::Tree { environment: says } => {
            let says = says
                .as_ref()
                .map_err(|error| unseen(error, Method::Stat, "the root".to_owned()))?;
            let mark = environment(declared.environment, says.as_deref(), Method::Stat)?;
            Ok(yes(Question::RightLocation, Method::Stat, mark))
        }
        Found::Database { table, database } => in_database(declared, table.as_deref(), database),
        Found::Unknown => Ok(finding(
            Question::RightLocation,
            Answer::Waived,
            Method::Unknown,
        )),
    }
}

fn in_database(
    declared: Declared<'_>,
    table: Option<&str>,
    database: &Result<DatabaseFound, ProbeError>,
) -> Result<Finding, No> {
    let method = table.map_or(Method::Connect, |_| Method::Table);
    let expected = table.map_or_else(
        || "a database that answers".to_owned(),
        |table| format!("the table {table}"),
    );
    let database = match database {
        Ok(database) => database,
        // A script may reach what our driver cannot: that is said, not refused.
        Err(ProbeError::Unable(problem)) => {
            let waived = finding(Question::RightLocation, Answer::Waived, Method::Unknown);
            return Ok(Finding {
                found: problem.clone(),
                ..waived
            });
        }
        Err(error) => return Err(unseen(error, method, expected)),
    };
    let mark = environment(
        declared.environment,
        database.environment.as_deref(),
        method,
    )?;
    if database.table == Some(false) {
        let found = no(
            Question::RightLocation,
            method,
            expected,
            "no such table".to_owned(),
        );
        let hint = "create it, or grant the login the right to see it; it is asked again later";
        return Err((found, FailureClass::Gate, hint.to_owned()));
    }
    let found = table.map_or_else(|| mark.clone(), |table| format!("{table}, {mark}"));
    Ok(yes(Question::RightLocation, method, found))
}

fn validated(input: &InputChunk, declared: Declared<'_>, _: &Found) -> Result<Finding, No> {
    if is_source(input) {
        return Ok(finding(Question::Validated, Answer::Waived, Method::Source));
    }
    let validation: Option<Validation> = input
        .validation
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    if let Some(validation) = validation.filter(Validation::is_validated) {
        let mut parts: Vec<String> = validation.format.into_iter().collect();
        parts.extend(validation.rows.map(|rows| format!("{rows} rows")));
        parts.extend(
            validation
                .rules
                .iter()
                .map(|rule| format!("{} = {}", rule.rule, rule.found)),
        );
        return Ok(yes(Question::Validated, Method::Rules, parts.join(", ")));
    }
    if declared.accept_unvalidated {
        return Ok(finding(
            Question::Validated,
            Answer::Waived,
            Method::Accepted,
        ));
    }
    let found = no(
        Question::Validated,
        Method::Rules,
        "rules that it passed, or accept: unvalidated on the input".to_owned(),
        format!("generation {} was published unvalidated", input.generation),
    );
    let hint = format!(
        "give {0} a format or validate:, and resubmit {0}/{1}, or say accept: unvalidated",
        input.dataset, input.key
    );
    Err((found, FailureClass::Refused, hint))
}

fn safe(_: &InputChunk, _: Declared<'_>, _: &Found) -> Result<Finding, No> {
    Ok(finding(Question::Safe, Answer::Yes, Method::Shared))
}

/// Whether bytes of this input can be read by us, and how.
pub(crate) fn verify_of(input: &InputChunk) -> Verify {
    // A source's file has no checksum to compare: reading it all would prove nothing.
    if is_source(input) {
        Verify::Size
    } else {
        input.verify
    }
}
