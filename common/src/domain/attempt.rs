//! How an attempt ended: the outcome a worker reports and the class of a failure.
//!
//! Classes decide what happens next, so they are assigned in one function per executor and
//! never guessed again later.

use serde::{Deserialize, Serialize};

use super::Validation;

/// Why an attempt failed, by what should happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Try again with back-off (also exit code 75).
    Transient,
    /// Never retried: bad data or a wrong declaration (exit code 65).
    Permanent,
    /// This host is at fault (exit code 78, a script that differs from the pinned one): uncharged.
    Host,
    /// A common cause beyond the chunk: uncharged.
    Outage,
    /// Timed out or out of memory: a candidate for splitting.
    TooBig,
    /// The output did not pass its checks: what was staged is kept.
    Invalid,
    /// An input was published again while it was read: uncharged.
    StaleInput,
    /// An input answered no to one of the five questions, for now: uncharged, asked again later.
    Gate,
    /// An input answered no, and asking again would not help: uncharged, a person decides.
    Refused,
}

impl FailureClass {
    /// The word used in SQL, JSON and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Host => "host",
            Self::Outage => "outage",
            Self::TooBig => "too_big",
            Self::Invalid => "invalid",
            Self::StaleInput => "stale_input",
            Self::Gate => "gate",
            Self::Refused => "refused",
        }
    }
}

/// What a successful attempt produced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputReport {
    /// Where the published data is: a path below the connection's root, a table, or what the script named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Rows produced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Bytes produced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// `algorithm:hex`, for example `sha256:ab12...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// What was checked about it; `None` publishes it as unvalidated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// The end of an attempt, as the worker settles it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Published and checked.
    Validated(OutputReport),
    /// Failed, with the class that decides what happens next and a message for people.
    Failed {
        /// Decides about retry and charge.
        class: FailureClass,
        /// One or a few lines: what was expected, what happened.
        error: String,
    },
    /// Given back unfinished (drain, lost permit); costs nothing.
    Released {
        /// Why, in a few words.
        reason: String,
    },
}

/// All that is kept about one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptResult {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The script's exit code, where it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// SHA-256 of the script that ran, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_sha256: Option<String>,
    /// The last part of stdout and stderr, secrets masked, at most 8 KiB.
    #[serde(default)]
    pub log_tail: String,
    /// Where the whole log is on the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_path: Option<String>,
    /// How long it ran, in milliseconds.
    #[serde(default)]
    pub duration_ms: i64,
    /// What its inputs answered to the five questions ([`super::Evidence::encode`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

impl AttemptResult {
    /// A result that carries nothing but its outcome.
    #[must_use]
    pub fn bare(outcome: Outcome) -> Self {
        Self {
            outcome,
            exit_code: None,
            signal: None,
            script_sha256: None,
            log_tail: String::new(),
            log_path: None,
            duration_ms: 0,
            evidence: None,
        }
    }
}
