//! The pool of sessions that daemons use for our own database.
//!
//! Sessions are opened with the same TLS and time-outs as any other. The pool hands out
//! sessions; it never retries and never runs a statement of its own beyond their settings.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use secrecy::SecretString;

use super::{ConnectError, PgTarget, SessionSettings, tls};

/// How large a pool is and how its sessions are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// The most sessions that are open at once.
    pub size: usize,
    /// How long a caller waits for a free session.
    pub wait: Duration,
    /// What each session is told.
    pub session: SessionSettings,
}

impl PoolSettings {
    /// A pool of that size: callers wait at most 10 s, sessions as [`SessionSettings::named`].
    #[must_use]
    pub fn new(size: usize, application_name: impl Into<String>) -> Self {
        Self {
            size,
            wait: Duration::from_secs(10),
            session: SessionSettings::named(application_name),
        }
    }
}

/// Makes a pool; it opens no session until one is asked for.
///
/// # Errors
/// [`ConnectError::InvalidUrl`] or [`ConnectError::Tls`] where the url or its roots cannot be read.
pub fn pool(url: &SecretString, settings: &PoolSettings) -> Result<Pool, ConnectError> {
    let mut target = PgTarget::parse(url)?;
    target
        .config
        .application_name(&settings.session.application_name);
    let manager = Manager::from_config(
        target.config.clone(),
        tls::connector(&target.tls)?,
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let deadline = target.deadline();
    let told = Arc::new((settings.session.clone(), target.config.clone()));
    Pool::builder(manager)
        .max_size(settings.size.max(1))
        .wait_timeout(Some(settings.wait))
        .create_timeout(Some(deadline))
        .recycle_timeout(Some(deadline))
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(move |client, _| {
            let told = Arc::clone(&told);
            Box::pin(async move {
                let (session, config) = &*told;
                session
                    .apply(client, config)
                    .await
                    .map_err(HookError::Backend)
            })
        }))
        .build()
        .map_err(|error| ConnectError::Refused {
            address: target.address(),
            problem: error.to_string(),
        })
}

/// Reads a pool's error apart as [`super::connect`] does, for `coordinator doctor` and for logs.
#[must_use]
pub fn explain(url: &SecretString, error: &deadpool_postgres::PoolError) -> ConnectError {
    use deadpool_postgres::PoolError;
    let target = match PgTarget::parse(url) {
        Ok(target) => target,
        Err(error) => return error,
    };
    match error {
        PoolError::Backend(driver) | PoolError::PostCreateHook(HookError::Backend(driver)) => {
            ConnectError::from_driver(&target, driver)
        }
        other => ConnectError::Unreachable {
            address: target.address(),
            problem: other.to_string(),
        },
    }
}
