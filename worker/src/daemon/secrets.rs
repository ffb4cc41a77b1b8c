//! What attempts get from this process: secrets from its environment, predicates, directories.

use std::sync::Arc;
use std::time::Duration;

use common::domain::Bounds;
use common::endpoint::predicate::sql_predicate;
use common::secret::{SecretSource, resolve};
use secrecy::SecretString;

use super::config::Config;
use crate::attempt::{LogLimits, SecretResolver, WorkerEnv};

/// How long what a script leaves running may take to end by itself.
const LINGER: Duration = Duration::from_secs(2);

/// Secrets as `common::secret` finds them, read again at every use.
struct ProcessSecrets(SecretSource);

impl SecretResolver for ProcessSecrets {
    fn resolve(&self, text: &str) -> Result<SecretString, String> {
        resolve(text, &self.0).map_err(|error| error.to_string())
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
        linger: LINGER,
    }
}

/// A chunk's condition; where there is none, text that no database takes for one, so that a script
/// fails instead of reading nothing or everything.
fn predicate(bounds: &Bounds) -> String {
    sql_predicate(bounds).unwrap_or_else(|error| format!("#odf has no condition: {error}#"))
}
