//! The gate: five questions to each input of an attempt, asked before its job starts.
//!
//! What the claim decided (ready, safe) arrives with the lease; what is physical is probed here, by
//! the worker that will use it. A no ends the attempt before anything of the user's ran and costs no
//! retry. The gate reads only, and knows neither the control database nor how attempts are retried.

mod judge;
pub mod probe;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::domain::{
    Answer, Bounds, Evidence, FailureClass, Finding, InputChunk, InputEvidence, Verdict,
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use probe::{ENVIRONMENT_FILE, FileStamp, ProbeError, Probes, RealProbes};

use crate::attempt::{AttemptContext, Failure};
use crate::attempt::{Resolved, connection, inside_root, published_place};
use judge::{Declared, Found, Judgement, judge, verify_of};

/// Verdicts that are kept in full for whoever asks; the others are in the evidence.
const SHOWN: usize = 20;

/// What the gate found.
#[derive(Debug, Default)]
pub struct Passage {
    /// What the attempt keeps.
    pub evidence: Evidence,
    /// The first verdicts, in full.
    pub verdicts: Vec<Verdict>,
    /// The files that were looked at, so that they can be looked at again before publishing.
    files: Vec<(PathBuf, FileStamp)>,
}

/// Why an attempt may not start.
#[derive(Debug)]
pub enum Refusal {
    /// A question was answered with no.
    No {
        /// What happens next, and the words for people.
        failure: Failure,
        /// What was found until then.
        passage: Box<Passage>,
    },
    /// The attempt was told to stop meanwhile.
    Stopped,
}

/// Asks every input of a prepared attempt, one-to-one inputs first, then those taken whole.
///
/// # Errors
/// The first no.
pub(crate) async fn ask(
    context: &AttemptContext,
    probes: &dyn Probes,
    stop: &CancellationToken,
) -> Result<Passage, Refusal> {
    let started = Instant::now();
    let mut asking = Asking {
        context,
        probes,
        stop,
        passage: Passage::default(),
        digests: Vec::new(),
        trees: HashMap::new(),
    };
    let asked = asking.all().await;
    let mut passage = asking.passage;
    for (group, digest) in passage.evidence.inputs.iter_mut().zip(asking.digests) {
        if let (true, Some(digest)) = (group.n > 1, digest) {
            group.sum = Some(hex::encode(digest.finalize())[..16].to_owned());
        }
    }
    passage.evidence.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match asked {
        Ok(()) => Ok(passage),
        Err(None) => Err(Refusal::Stopped),
        Err(Some(failure)) => Err(Refusal::No {
            failure,
            passage: Box::new(passage),
        }),
    }
}

/// Looks again at the files that were read: whether one was changed under the job.
///
/// # Errors
/// An uncharged failure that names the file.
pub(crate) fn recheck(passage: &Passage) -> Result<(), Failure> {
    for (path, before) in &passage.files {
        let now = std::fs::metadata(path).map(|metadata| FileStamp::of(&metadata));
        if now.ok() != Some(*before) {
            return Err(Failure::new(
                FailureClass::Gate,
                format!(
                    "the input {} was changed, replaced or removed while the job read it; what was made from it is not published (hint: nothing but its producer may write there)",
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}

struct Asking<'a> {
    context: &'a AttemptContext,
    probes: &'a dyn Probes,
    stop: &'a CancellationToken,
    passage: Passage,
    /// Of each group of evidence, the digest of the digests found.
    digests: Vec<Option<Sha256>>,
    /// What file trees say of themselves, asked once an attempt.
    trees: HashMap<PathBuf, Result<Option<String>, ProbeError>>,
}

impl Asking<'_> {
    async fn all(&mut self) -> Result<(), Option<Failure>> {
        let context = self.context;
        self.output().await?;
        for input in context.item.inputs.iter().chain(&context.fan_in) {
            if self.stop.is_cancelled() {
                return Err(None);
            }
            self.one(input).await?;
        }
        Ok(())
    }

    /// Writing into another environment is worse than reading from it.
    async fn output(&mut self) -> Result<(), Option<Failure>> {
        let spec = &self.context.spec;
        let name = &spec.output_at.connection;
        let declared = self.environment_of(name);
        let says = match connection(&self.context.connections, name).map_err(Some)? {
            Resolved::Files { root, .. } => self.tree(root).await,
            Resolved::Postgres { url, .. } if declared.is_some() => self
                .probes
                .database(url, None)
                .await
                .map(|database| database.environment),
            Resolved::Postgres { .. } | Resolved::Other { .. } => return Ok(()),
        };
        match (declared, says) {
            (Some(declared), Ok(Some(says))) if declared != says => Err(Some(Failure::new(
                FailureClass::Refused,
                format!(
                    "the output's connection {name} is declared as environment {declared} and marked as environment {says} (hint: mend the connection, or its mark)"
                ),
            ))),
            (_, Err(ProbeError::Away(problem))) => Err(Some(Failure::new(
                FailureClass::Outage,
                format!("the output's connection {name}: {problem}"),
            ))),
            // A root that is missing is reported when the output is prepared.
            _ => Ok(()),
        }
    }

    fn environment_of(&self, connection: &str) -> Option<String> {
        let spec = &self.context.spec;
        spec.connections.get(connection)?.environment.clone()
    }

    async fn tree(&mut self, root: &Path) -> Result<Option<String>, ProbeError> {
        if let Some(known) = self.trees.get(root) {
            return known.clone();
        }
        let found = self.probes.tree(root).await;
        self.trees.insert(root.to_owned(), found.clone());
        found
    }

    async fn one(&mut self, input: &InputChunk) -> Result<(), Option<Failure>> {
        let (found, path) = self.look(input).await.map_err(Some)?;
        if matches!(
            found,
            Found::File {
                file: Err(ProbeError::Stopped),
                ..
            }
        ) {
            return Err(None);
        }
        let environment = self.environment_of(&input.at.connection);
        let accept_unvalidated = self
            .context
            .spec
            .job
            .inputs
            .iter()
            .any(|declared| declared.dataset == input.dataset && declared.accept_unvalidated);
        let declared = Declared {
            environment: environment.as_deref(),
            accept_unvalidated,
        };
        let judgement = judge(input, declared, &found);
        self.keep(&judgement, &found);
        if let (Some(path), Found::File { file: Ok(file), .. }) = (path, &found) {
            self.passage.files.push((path, file.stamp));
        }
        match judgement.class {
            None => Ok(()),
            Some(class) => Err(Some(refusal(class, &judgement))),
        }
    }

    /// Looks at an input; also the path to look at again, where there is one.
    async fn look(&mut self, input: &InputChunk) -> Result<(Found, Option<PathBuf>), Failure> {
        let resolved = connection(&self.context.connections, &input.at.connection)?;
        Ok(match resolved {
            Resolved::Postgres { url, .. } => {
                let table = input.at.table.clone().filter(|_| !is_nominal(input));
                let database = self.probes.database(url, table.as_deref()).await;
                (Found::Database { table, database }, None)
            }
            Resolved::Files { root, .. } => {
                let environment = self.tree(root).await;
                let place = published_place(input).filter(|_| !is_nominal(input));
                let Some(relative) = place else {
                    return Ok((Found::Tree { environment }, None));
                };
                let relative = inside_root(&relative)?;
                let path = root.join(&relative);
                let verify = verify_of(input);
                let file = self.probes.file(root, &relative, verify, self.stop).await;
                let found = Found::File {
                    path: path.display().to_string(),
                    file,
                    environment,
                };
                (found, Some(path))
            }
            Resolved::Other { .. } => (Found::Unknown, None),
        })
    }

    /// Adds a verdict to the evidence: to the group of its data set that answered alike.
    fn keep(&mut self, judgement: &Judgement, found: &Found) {
        let how = how(&judgement.verdict.findings);
        let (bytes, sha256) = match found {
            Found::File { file: Ok(file), .. } => (Some(file.bytes), file.sha256.as_deref()),
            _ => (None, None),
        };
        let groups = &mut self.passage.evidence.inputs;
        // Inputs come data set by data set, so only the last group can be the same one.
        match groups.last_mut().filter(|group| group.how == how) {
            Some(group) => {
                group.n += 1;
                group.bytes = group.bytes.zip(bytes).map(|(sum, bytes)| sum + bytes);
            }
            None => {
                groups.push(InputEvidence {
                    how,
                    n: 1,
                    bytes,
                    sum: sha256.and_then(|sum| sum.get(..16)).map(str::to_owned),
                });
                self.digests.push(sha256.map(|_| Sha256::new()));
            }
        }
        if let (Some(Some(digest)), Some(sha256)) = (self.digests.last_mut(), sha256) {
            digest.update(sha256.as_bytes());
        }
        if self.passage.verdicts.len() < SHOWN || judgement.class.is_some() {
            self.passage.verdicts.push(judgement.verdict.clone());
        }
    }
}

/// Whether an input's place is only said: a source whose chunks are values, rows or windows may be one
/// table, a folder, or whatever its scripts make of it.
fn is_nominal(input: &InputChunk) -> bool {
    let of_table = matches!(
        input.bounds,
        Bounds::KeyRange { .. } | Bounds::NullKeys { .. } | Bounds::Single
    );
    let of_file = matches!(input.bounds, Bounds::File { .. });
    input.attempt.is_none() && !of_file && !(of_table && input.at.table.is_some())
}

/// Method codes in the order of the questions.
fn how(findings: &[Finding]) -> String {
    let codes: Vec<String> = findings
        .iter()
        .map(|finding| {
            let mark = match finding.answer {
                Answer::Yes => "",
                Answer::Waived => "-",
                Answer::No => "!",
            };
            format!("{mark}{}", finding.method.code())
        })
        .collect();
    codes.join(" ")
}

fn refusal(class: FailureClass, judgement: &Judgement) -> Failure {
    let verdict = &judgement.verdict;
    let Some(finding) = verdict.refusal() else {
        return Failure::new(class, format!("{} was refused", verdict.input));
    };
    let hint = match judgement.hint.as_str() {
        "" => String::new(),
        hint => format!(" (hint: {hint})"),
    };
    Failure::new(
        class,
        format!(
            "gate: {} of {}: expected {}, found {}{hint}",
            finding.question.words(),
            verdict.input,
            finding.expected,
            finding.found
        ),
    )
}
