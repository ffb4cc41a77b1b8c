//! A flow file as a command takes it: read, checked, its scripts pinned, its digest taken.
//!
//! Shared by `plan` and `apply`, so that what one shows is what the other does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::flow::model::Flow;
use common::flow::topology::{Cycle, Topology};
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
    /// The jobs wait for each other; the check of the file says it better and comes first.
    #[error(transparent)]
    Circle(#[from] Cycle),
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
    let topology = Topology::of(&flow)?;
    let depths = flow
        .jobs
        .keys()
        .map(|job| (job.clone(), topology.depth(job).unwrap_or(1)))
        .collect();
    let (scripts, unpinned) = script_dir.map_or_else(Default::default, |dir| pin(&flow, dir));
    Ok(Declared {
        document: String::from_utf8_lossy(&bytes).into_owned(),
        warnings: parsed.warnings,
        digest: digest(&parsed.digest_sha256, &scripts),
        flow,
        scripts,
        unpinned,
        depths,
        topology,
    })
}

/// The hash of each job's script in a folder, and the scripts that cannot be read there.
fn pin(flow: &Flow, dir: &Path) -> (BTreeMap<String, String>, Vec<String>) {
    let mut scripts = BTreeMap::new();
    let mut unpinned = Vec::new();
    for (name, job) in &flow.jobs {
        let Some(script) = script_of(job) else {
            continue;
        };
        match std::fs::read(dir.join(script)) {
            Ok(body) => {
                scripts.insert(name.clone(), hex::encode(Sha256::digest(body)));
            }
            Err(error) => unpinned.push(format!("job {name}: script {script}: {error}")),
        }
    }
    (scripts, unpinned)
}

/// What a version is recognised by: its file and its pinned scripts.
fn digest(file_sha256: &str, scripts: &BTreeMap<String, String>) -> String {
    let mut digest = Sha256::new();
    digest.update(file_sha256.as_bytes());
    for (job, sha256) in scripts {
        digest.update(format!("\n{job} {sha256}").as_bytes());
    }
    hex::encode(digest.finalize())
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

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "flow: f
connections: { lake: { kind: files, root: /data } }
datasets:
  a: { at: { connection: lake, path: \"a/{chunk}\" }, partition: { list: [x, y] } }
  b: { at: { connection: lake, path: \"b/{chunk}.{fence}\" } }
jobs:
  copy: { input: a, output: b, run: { script: copy.sh } }
";

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("flow.yaml");
        std::fs::write(&file, FLOW).unwrap();
        (dir, file)
    }

    #[test]
    fn a_version_is_its_file_and_its_scripts() {
        let (dir, file) = folder();
        let script = dir.path().join("copy.sh");
        std::fs::write(&script, "#!/bin/sh\necho 1\n").unwrap();
        let first = read(&file, Some(dir.path())).unwrap();
        assert_eq!(
            first.scripts["copy"],
            hex::encode(Sha256::digest("#!/bin/sh\necho 1\n"))
        );
        assert_eq!(
            first.digest,
            read(&file, Some(dir.path())).unwrap().digest,
            "the same again"
        );
        std::fs::write(&script, "#!/bin/sh\necho 2\n").unwrap();
        let second = read(&file, Some(dir.path())).unwrap();
        assert_ne!(first.digest, second.digest, "another script");
        assert_ne!(second.digest, read(&file, None).unwrap().digest, "no pin");
        std::fs::write(&file, format!("{FLOW}# a remark\n")).unwrap();
        let third = read(&file, Some(dir.path())).unwrap();
        assert_ne!(second.digest, third.digest, "another file");
    }

    #[test]
    fn a_script_that_is_not_there_is_told_and_not_pinned() {
        let (dir, file) = folder();
        let declared = read(&file, Some(dir.path())).unwrap();
        assert!(declared.scripts.is_empty());
        let [told] = declared.unpinned.as_slice() else {
            panic!("{:?}", declared.unpinned)
        };
        assert!(told.starts_with("job copy: script copy.sh: "), "{told}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let text = read(Path::new("/nowhere/flow.yaml"), None)
            .unwrap_err()
            .to_string();
        assert!(text.contains("/nowhere/flow.yaml"), "{text}");
        assert!(text.contains("coordinator example"), "{text}");
    }
}
