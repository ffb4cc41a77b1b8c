//! From how a script ended to what that means: the one place that assigns classes to scripts.
//!
//! Pure. The classes are a contract with the authors of scripts; messages begin the same for
//! the same cause, so that failures can be grouped.

use std::time::Duration;

use common::domain::FailureClass;
use nix::sys::signal::Signal;

use crate::attempt::Failure;

/// How a script's tree came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The script's exit code.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Why we ended it, if we did.
    pub(crate) ours: Option<Ours>,
    /// Processes that outlived it and had to be killed.
    pub(crate) leftovers: u32,
    /// What went wrong with the guard, a process that cannot be killed.
    pub(crate) fault: Option<Failure>,
}

/// Why we ended a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ours {
    /// It took longer than its job allows.
    TimedOut(Duration),
    /// The worker wanted its end.
    Asked,
}

/// What an ending means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It claims to be done.
    Done,
    /// The worker ended it.
    Released,
    /// It failed.
    Failed(Failure),
}

/// Decides. `last_line` is the last thing that the script printed, masked.
pub(crate) fn meaning(ending: &Ending, last_line: &str) -> Meaning {
    match ending.ours {
        Some(Ours::TimedOut(limit)) => {
            let limit = humantime::format_duration(limit);
            return Meaning::Failed(Failure::new(
                FailureClass::TooBig,
                format!("timed out after {limit}{}", said(last_line)),
            ));
        }
        Some(Ours::Asked) => return Meaning::Released,
        None => {}
    }
    if let Some(fault) = &ending.fault {
        return Meaning::Failed(fault.clone());
    }
    if let Some(signal) = ending.signal {
        return Meaning::Failed(of_signal(signal, last_line));
    }
    match ending.code {
        Some(0) => Meaning::Done,
        Some(code) => Meaning::Failed(of_code(code, last_line)),
        None => Meaning::Failed(Failure::transient("the script's end was not seen")),
    }
}

fn of_code(code: i32, last_line: &str) -> Failure {
    let (class, means) = match code {
        65 => (FailureClass::Permanent, " (bad data)"),
        75 => (FailureClass::Transient, " (try again later)"),
        78 => (FailureClass::Host, " (misconfigured host)"),
        _ => (FailureClass::Transient, ""),
    };
    Failure::new(class, format!("exit code {code}{means}{}", said(last_line)))
}

fn of_signal(signal: i32, last_line: &str) -> Failure {
    if signal == Signal::SIGKILL as i32 {
        return Failure::new(
            FailureClass::TooBig,
            format!(
                "killed by signal 9 (SIGKILL) that this worker did not send: likely out of memory{}",
                said(last_line)
            ),
        );
    }
    let name = match Signal::try_from(signal) {
        Ok(known) => format!(" ({known})"),
        Err(_) => String::new(),
    };
    Failure::transient(format!("ended by signal {signal}{name}{}", said(last_line)))
}

fn said(last_line: &str) -> String {
    if last_line.is_empty() {
        String::new()
    } else {
        format!(": {last_line}")
    }
}

/// The last line with anything on it, at most 300 characters, without control characters.
pub(crate) fn last_line(tail: &str) -> String {
    let line = tail
        .lines()
        .rev()
        .map(str::trim)
        // Lines in brackets are notes of ours.
        .find(|line| !(line.is_empty() || line.starts_with('[') && line.ends_with(']')))
        .unwrap_or_default();
    line.chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect::<String>()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::domain::FailureClass::{self, Host, Permanent, TooBig, Transient};

    use super::{Ending, Meaning, Ours, last_line, meaning};
    use crate::attempt::Failure;

    fn failed(ending: &Ending) -> (FailureClass, String) {
        match meaning(ending, "disk on fire") {
            Meaning::Failed(failure) => (failure.class, failure.error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exit_codes_and_signals_have_their_classes() {
        let code = |code| {
            failed(&Ending {
                code: Some(code),
                ..Ending::default()
            })
        };
        assert_eq!(
            code(65),
            (Permanent, "exit code 65 (bad data): disk on fire".into())
        );
        assert_eq!(code(75).0, Transient);
        assert_eq!(code(78).0, Host);
        for other in [1, 2, 126, 127, 137, 255] {
            assert_eq!(code(other).0, Transient, "{other}");
        }
        let signal = |signal| {
            failed(&Ending {
                signal: Some(signal),
                ..Ending::default()
            })
        };
        assert_eq!(signal(9).0, TooBig);
        assert_eq!(
            signal(11),
            (
                Transient,
                "ended by signal 11 (SIGSEGV): disk on fire".into()
            )
        );
        assert_eq!(signal(40).0, Transient);
    }

    #[test]
    fn what_we_did_counts_more_than_how_it_ended() {
        let mut ending = Ending {
            code: Some(0),
            ours: Some(Ours::TimedOut(Duration::from_secs(7200))),
            ..Ending::default()
        };
        assert_eq!(
            failed(&ending),
            (TooBig, "timed out after 2h: disk on fire".into())
        );
        ending.ours = Some(Ours::Asked);
        assert_eq!(meaning(&ending, ""), Meaning::Released);
        ending.ours = None;
        assert_eq!(meaning(&ending, ""), Meaning::Done);
        ending.fault = Some(Failure::host("the guard is gone"));
        assert_eq!(failed(&ending).0, Host);
    }

    #[test]
    fn the_last_line_is_the_script_s_own() {
        assert_eq!(last_line("a\n b\x07c \n\n[2 processes killed]\n"), "bc");
        assert_eq!(last_line(""), "");
        assert_eq!(last_line(&"x".repeat(1000)).len(), 300);
    }
}
