//! What attempts get from this process: secrets from its environment, predicates, directories.

use std::sync::Arc;
use std::time::Duration;

use common::domain::Bounds;
use common::endpoint::predicate::{PredicateError, sql_predicate};
use common::secret::{SecretSource, resolve, resolve_url};
use secrecy::SecretString;

use super::config::Config;
use crate::attempt::{LogLimits, SecretResolver, WorkerEnv};
use crate::gate::RealProbes;

/// How long what a script leaves running may take to end by itself.
const LINGER: Duration = Duration::from_secs(2);

/// Secrets as `common::secret` finds them, read again at every use.
struct ProcessSecrets(SecretSource);

impl SecretResolver for ProcessSecrets {
    fn resolve(&self, text: &str) -> Result<SecretString, String> {
        resolve(text, &self.0).map_err(|error| error.to_string())
    }

    fn resolve_url(&self, url: &str) -> Result<SecretString, String> {
        let resolved = resolve_url(url, &self.0).map_err(|error| error.to_string())?;
        Ok(resolved.value)
    }
}

/// What every attempt of a worker with these settings gets.
pub(crate) fn worker_env(config: &Config) -> WorkerEnv {
    WorkerEnv {
        script_dir: config.script_dir.clone(),
        work_dir: config.work_dir(),
        log_dir: config.log_dir.clone(),
        log_limits: LogLimits::default(),
        secrets: Arc::new(ProcessSecrets(SecretSource::from_process())),
        predicate,
        probes: RealProbes::new(),
        linger: LINGER,
    }
}

/// A chunk's condition. Bounds without one (a value, a file, a row) give no text, and broken ones
/// give text that no database takes for a condition: a script that uses it fails instead of reading
/// everything or nothing.
fn predicate(bounds: &Bounds) -> String {
    match sql_predicate(bounds) {
        Ok(condition) => condition,
        Err(PredicateError::NoCondition { .. }) => String::new(),
        Err(error) => format!("#no condition: {error}#"),
    }
}
