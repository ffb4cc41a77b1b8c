//! The five questions that every input chunk must answer before a job may touch it, and their answers.
//!
//! A [`Verdict`] is what one input answered, in full, for people. [`Evidence`] is what an attempt keeps
//! of all its verdicts: at most [`Evidence::MAX_BYTES`] bytes of JSON, because what was *expected* is in
//! the input's own publication record, which is kept as long, and only what was *found* need be kept here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the five questions, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Is it published, which generation, by which attempt?
    Ready,
    /// Is it the chunk that the mapping demands, with the bytes that were published?
    RightData,
    /// Is it where the declaration says, in the declared environment?
    RightLocation,
    /// Which rules did it pass, or is it declared that none are asked?
    Validated,
    /// No writer, no hold, shared read?
    Safe,
}

impl Question {
    /// All five, in order.
    pub const ALL: [Self; 5] = [
        Self::Ready,
        Self::RightData,
        Self::RightLocation,
        Self::Validated,
        Self::Safe,
    ];

    /// The question's words for tables and messages.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::RightData => "right data",
            Self::RightLocation => "right location",
            Self::Validated => "validated",
            Self::Safe => "safe",
        }
    }
}

/// What a question was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Looked at, and it is so.
    Yes,
    /// Not looked at because the declaration says so, or because nothing of ours can look there.
    Waived,
    /// It is not so: the job does not start.
    No,
}

/// How a question was answered: the code that evidence keeps, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A publication of that generation exists; its state row was locked by the claim.
    Published,
    /// It belongs to a source, which exists since its plan was sealed.
    Source,
    /// SHA-256 of the whole file, computed by this worker, equals the published one.
    Sha256,
    /// The size equals the published one; the bytes were not read.
    Size,
    /// Key, bounds and generation were pinned by the claim; there are no bytes of ours to look at.
    Pinned,
    /// The file is there, regular, inside the root.
    Stat,
    /// The table is there, and the server answers for the declared environment.
    Table,
    /// The connection answers; there is no table or file of ours to look at.
    Connect,
    /// The connection is of a kind that only scripts understand.
    Unknown,
    /// Rules were checked before it was published.
    Rules,
    /// It was published unvalidated and the input says `accept: unvalidated`.
    Accepted,
    /// No lease and no hold on it when the claim locked it; overwriting waits for its readers.
    Shared,
}

impl Method {
    const CODES: [(Self, &'static str); 12] = [
        (Self::Published, "pub"),
        (Self::Source, "src"),
        (Self::Sha256, "sum"),
        (Self::Size, "size"),
        (Self::Pinned, "pin"),
        (Self::Stat, "stat"),
        (Self::Table, "table"),
        (Self::Connect, "conn"),
        (Self::Unknown, "none"),
        (Self::Rules, "rules"),
        (Self::Accepted, "acc"),
        (Self::Shared, "share"),
    ];

    /// The code kept in evidence.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::CODES
            .iter()
            .find(|(method, _)| *method == self)
            .map_or("none", |(_, code)| code)
    }

    /// The method of a code, if there is one.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::CODES
            .iter()
            .find(|(_, known)| *known == code)
            .map(|(method, _)| *method)
    }

    /// What was done, for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Published => "its publication exists",
            Self::Source => "a source: there since its plan was sealed",
            Self::Sha256 => "SHA-256 of every byte, computed by the reading worker",
            Self::Size => "size only, as declared (verify: size)",
            Self::Pinned => "key, bounds and generation pinned by the claim",
            Self::Stat => "looked at by the reading worker",
            Self::Table => "table looked up by the reading worker",
            Self::Connect => "connection tried by the reading worker",
            Self::Unknown => "not looked at: only scripts understand this connection",
            Self::Rules => "rules checked before publication",
            Self::Accepted => "unvalidated, accepted by declaration",
            Self::Shared => "no writer and no hold when it was locked; readers are waited for",
        }
    }
}

/// The answer to one question about one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The question.
    pub question: Question,
    /// Its answer.
    pub answer: Answer,
    /// How it was answered.
    pub method: Method,
    /// What was expected, for people; empty where the method says it all.
    pub expected: String,
    /// What was found, for people.
    pub found: String,
}

/// What one input chunk answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `dataset/key`.
    pub input: String,
    /// One finding a question, in the order of [`Question::ALL`]; those after a `no` are not asked.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// The finding that forbids the attempt, if there is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.answer == Answer::No)
    }

    /// Whether all five questions were asked and none was answered with no.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings
            .iter()
            .map(|finding| finding.question)
            .eq(Question::ALL)
            && self.refusal().is_none()
    }
}

impl fmt::Display for Verdict {
    /// One row a question.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.input)?;
        for finding in &self.findings {
            let answer = match finding.answer {
                Answer::Yes => "yes",
                Answer::Waived => "waived",
                Answer::No => "NO",
            };
            write!(
                f,
                "\n  {:<14} {answer:<6} {}",
                finding.question.words(),
                finding.method.words()
            )?;
            if !finding.expected.is_empty() {
                write!(f, "; expected {}", finding.expected)?;
            }
            if !finding.found.is_empty() {
                write!(f, "; found {}", finding.found)?;
            }
        }
        Ok(())
    }
}

/// What is kept of the verdicts of one data set's chunks in one attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputEvidence {
    /// Method codes in the order of the questions, blank between; `-` before one waived, `!` before a no.
    pub how: String,
    /// How many chunks answered so; left out for one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub n: u64,
    /// Bytes found, of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// First 16 hex digits of the SHA-256 found; of several, of their digests in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_one(n: &u64) -> bool {
    *n == 1
}

impl InputEvidence {
    /// The answers and methods, in the order of the questions; unknown codes are left out.
    #[must_use]
    pub fn answers(&self) -> Vec<(Question, Answer, Method)> {
        Question::ALL
            .into_iter()
            .zip(self.how.split(' '))
            .filter_map(|(question, code)| {
                let (answer, code) = match code.as_bytes().first() {
                    Some(b'-') => (Answer::Waived, &code[1..]),
                    Some(b'!') => (Answer::No, &code[1..]),
                    _ => (Answer::Yes, code),
                };
                Some((question, answer, Method::from_code(code)?))
            })
            .collect()
    }
}

/// What an attempt keeps of the five questions: who asked and when is in the row that holds it
/// (worker, claim time), what was expected is in the publications of its inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Milliseconds from the claim's answer to the last probe.
    pub ms: u64,
    /// One entry for each group of inputs that answered alike, in the order of the job's inputs.
    pub inputs: Vec<InputEvidence>,
}

impl Evidence {
    /// The longest text that [`Self::encode`] gives; the column has the same limit.
    pub const MAX_BYTES: usize = 200;

    /// The JSON that is kept. Figures go first where it would be too long, then the groups that say the
    /// same as another one, and at last the groups after the first.
    #[must_use]
    pub fn encode(&self) -> String {
        let fits = |evidence: &Self| {
            serde_json::to_string(evidence)
                .ok()
                .filter(|text| text.len() <= Self::MAX_BYTES)
        };
        if let Some(text) = fits(self) {
            return text;
        }
        let mut short = self.clone();
        for input in &mut short.inputs {
            input.sum = None;
            input.bytes = None;
        }
        if let Some(text) = fits(&short) {
            return text;
        }
        let mut merged: Vec<InputEvidence> = Vec::new();
        for input in short.inputs {
            match merged.iter_mut().find(|known| known.how == input.how) {
                Some(known) => known.n = known.n.saturating_add(input.n),
                None => merged.push(input),
            }
        }
        short.inputs = merged;
        // A refusal is the last thing to be given up.
        short.inputs.sort_by_key(|input| !input.how.contains('!'));
        loop {
            if let Some(text) = fits(&short) {
                return text;
            }
            if short.inputs.pop().is_none() {
                return String::from("{\"ms\":0,\"inputs\":[]}");
            }
        }
    }

    /// Reads what [`Self::encode`] wrote; `None` for what it cannot have written.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Answer, Evidence, Finding, InputEvidence, Method, Question, Verdict};

    fn finding(question: Question, answer: Answer) -> Finding {
        Finding {
            question,
            answer,
            method: Method::Pinned,
            expected: String::new(),
            found: String::new(),
        }
    }

    #[test]
    fn a_verdict_passes_only_when_all_five_were_asked() {
        let mut verdict = Verdict {
            input: "orders/1".into(),
            findings: Question::ALL
                .map(|question| finding(question, Answer::Yes))
                .to_vec(),
        };
        assert!(verdict.passed());
        verdict.findings[2].answer = Answer::Waived;
        assert!(verdict.passed());
        verdict.findings[4].answer = Answer::No;
        assert!(!verdict.passed());
        assert_eq!(
            verdict.refusal().map(|finding| finding.question),
            Some(Question::Safe)
        );
        verdict.findings.truncate(4);
        assert!(!verdict.passed(), "a question was not asked");
    }

    #[test]
    fn codes_are_told_apart() {
        for (method, code) in Method::CODES {
            assert_eq!(Method::from_code(code), Some(method));
            assert_eq!(method.code(), code);
        }
        let input = InputEvidence {
            how: "pub !sum".into(),
            ..InputEvidence::default()
        };
        let expected = vec![
            (Question::Ready, Answer::Yes, Method::Published),
            (Question::RightData, Answer::No, Method::Sha256),
        ];
        assert_eq!(input.answers(), expected);
    }

    #[test]
    fn one_input_keeps_its_figures() {
        let evidence = Evidence {
            ms: 86_400_000,
            inputs: vec![InputEvidence {
                how: "pub sum stat rules share".into(),
                n: 1,
                bytes: Some(1 << 50),
                sum: Some("0123456789abcdef".into()),
            }],
        };
        let text = evidence.encode();
        assert_eq!(Evidence::decode(&text), Some(evidence), "{text}");
    }

    proptest! {
        #[test]
        fn evidence_never_outgrows_its_column(
            ms in any::<u64>(),
            inputs in prop::collection::vec(
                ("(pub|src|!pub) (sum|size|!sum) (stat|-none) (rules|-acc) share", any::<u64>(), any::<Option<u64>>(), prop::option::of("[0-9a-f]{16}")),
                0..40,
            ),
        ) {
            let refused = inputs.iter().any(|(how, ..)| how.contains('!'));
            let inputs: Vec<InputEvidence> = inputs
                .into_iter()
                .map(|(how, n, bytes, sum)| InputEvidence { how, n, bytes, sum })
                .collect();
            let some = !inputs.is_empty();
            let text = Evidence { ms, inputs }.encode();
            prop_assert!(text.len() <= Evidence::MAX_BYTES, "{text}");
            let read = Evidence::decode(&text).unwrap();
            prop_assert_eq!(!read.inputs.is_empty(), some);
            prop_assert_eq!(read.inputs.iter().any(|input| input.how.contains('!')), refused);
        }
    }
}
