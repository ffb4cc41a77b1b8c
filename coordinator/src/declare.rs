//! A flow file as a command takes it: read, checked, its scripts pinned, its digest taken.
//!
//! Shared by `plan` and `apply`, so that what one shows is what the other does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::flow::model::Flow;
use common::flow::topology::Topology;
use common::flow::{Diagnostic, parse_flow_bytes};
use common::store::apply::{Application, script_of};
use sha2::{Digest, Sha256};

/// A flow file that can be used.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The checked flow.
    pub flow: Flow,
    /// The file as written.
    pub document: String,
    /// What its author should look at.
    pub warnings: Vec<Diagnostic>,
    /// SHA-256 of the file and the pinned scripts together, hex.
    pub digest: String,
    /// SHA-256 of each job's script, hex, where a script folder was given.
    pub scripts: BTreeMap<String, String>,
    /// Scripts that could not be pinned, and why.
    pub unpinned: Vec<String>,
    /// Longest way from a source, by job.
    pub depths: BTreeMap<String, u32>,
    /// Which job makes which data set.
    pub topology: Topology,
}

/// Why a flow file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// The file cannot be read.
    #[error("read flow file {}: {problem}; hint: give the path of a YAML file, or start from 'coordinator example warehouse'", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        problem: std::io::Error,
    },
    /// The file has errors.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Diagnostic>),
}

/// Reads and checks a flow file; pins the scripts that `script_dir` holds.
///
/// # Errors
/// [`DeclareError`], with every problem of the file at once.
pub fn read(path: &Path, script_dir: Option<&Path>) -> Result<Declared, DeclareError> {
    let bytes = std::fs::read(path).map_err(|problem| DeclareError::Unreadable {
        path: path.to_owned(),
        problem,
    })?;
    let parsed =
        parse_flow_bytes(&bytes, &path.display().to_string()).map_err(DeclareError::Wrong)?;
    let flow = parsed.flow;
    // The check refuses cycles, so a flow that was parsed has an order.
    let topology = Topology::of(&flow).map_err(|_| DeclareError::Wrong(parsed.warnings.clone()))?;
    let depths = flow
        .jobs
        .keys()
        .map(|job| (job.clone(), topology.depth(job).unwrap_or(1)))
        .collect();
    let mut scripts = BTreeMap::new();
    let mut unpinned = Vec::new();
    for (name, job) in &flow.jobs {
        let (Some(dir), Some(script)) = (script_dir, script_of(job)) else {
            continue;
        };
        match std::fs::read(dir.join(script)) {
            Ok(body) => {
                scripts.insert(name.clone(), hex::encode(Sha256::digest(body)));
            }
            Err(error) => unpinned.push(format!("job {name}: script {script}: {error}")),
        }
    }
    let mut digest = Sha256::new();
    digest.update(parsed.digest_sha256.as_bytes());
    for (job, sha256) in &scripts {
        digest.update(format!("\n{job} {sha256}").as_bytes());
    }
    Ok(Declared {
        document: String::from_utf8_lossy(&bytes).into_owned(),
        warnings: parsed.warnings,
        digest: hex::encode(digest.finalize()),
        flow,
        scripts,
        unpinned,
        depths,
        topology,
    })
}

impl Declared {
    /// What goes to the control database.
    #[must_use]
    pub fn application(&self, reset_limits: bool) -> Application<'_> {
        Application {
            flow: &self.flow,
            document: &self.document,
            digest: &self.digest,
            scripts: &self.scripts,
            depths: &self.depths,
            reset_limits,
        }
    }
}
