//! One session with a PostgreSQL database, and the task that drives it.
//!
//! A session owns its driver: dropping the one ends the other. Every session has time-outs, so
//! that neither a lock nor a lost peer can hold it for ever. What is run on it is not this file's
//! business.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{ConnectError, PgTarget, tls};

/// What every session is told right after it is opened. `None` leaves the server's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// Shown in `pg_stat_activity`; cut at 63 bytes by the server.
    pub application_name: String,
    /// The longest a statement may run.
    pub statement_timeout: Option<Duration>,
    /// The longest a statement may wait for a lock.
    pub lock_timeout: Option<Duration>,
    /// The longest a transaction may sit idle.
    pub idle_in_transaction_timeout: Option<Duration>,
}

impl SessionSettings {
    /// Settings under that name: statements 60 s, locks 10 s, idle transactions 60 s.
    #[must_use]
    pub fn named(application_name: impl Into<String>) -> Self {
        Self {
            application_name: application_name.into(),
            statement_timeout: Some(Duration::from_secs(60)),
            lock_timeout: Some(Duration::from_secs(10)),
            idle_in_transaction_timeout: Some(Duration::from_secs(60)),
        }
    }

    /// Sets them, except those that the url's own `options` name: what a person wrote stands.
    ///
    /// By a statement, not by start-up options, because poolers refuse those.
    pub(super) async fn apply(
        &self,
        client: &Client,
        config: &Config,
    ) -> Result<(), tokio_postgres::Error> {
        let chosen = config.get_options().unwrap_or_default();
        let milliseconds =
            |limit: Option<Duration>| limit.map(|limit| limit.as_millis().to_string());
        let (names, values): (Vec<&str>, Vec<String>) = [
            ("statement_timeout", milliseconds(self.statement_timeout)),
            ("lock_timeout", milliseconds(self.lock_timeout)),
            (
                "idle_in_transaction_session_timeout",
                milliseconds(self.idle_in_transaction_timeout),
            ),
            // A client that is gone must not leave its query running; known from PostgreSQL 14 on.
            ("client_connection_check_interval", Some("10000".to_owned())),
        ]
        .into_iter()
        .filter(|(name, _)| !chosen.contains(name))
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .unzip();
        client
            .query_typed(
                "SELECT set_config(s.name, s.value, false) \
                 FROM unnest($1::text[], $2::text[]) AS s(name, value) \
                 WHERE s.name <> 'client_connection_check_interval' \
                    OR current_setting(s.name, true) IS NOT NULL",
                &[(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)],
            )
            .await?;
        Ok(())
    }
}

/// An open session; use it as a [`Client`]. Dropping it cuts the connection.
#[derive(Debug)]
pub struct PgSession {
    client: Client,
    driver: JoinSet<()>,
    address: String,
    tls: MakeRustlsConnectDebug,
}

#[derive(Clone)]
struct MakeRustlsConnectDebug(MakeRustlsConnect);

impl std::fmt::Debug for MakeRustlsConnectDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rustls")
    }
}

impl PgSession {
    /// `host:port/database`, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A handle that stops the statement running on this session, from anywhere.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller {
            token: self.client.cancel_token(),
            tls: self.tls.clone(),
        }
    }

    /// Says goodbye to the server and waits, at most five seconds, until the connection is closed.
    pub async fn close(self) {
        let Self {
            client, mut driver, ..
        } = self;
        drop(client);
        let _ = tokio::time::timeout(Duration::from_secs(5), driver.join_next()).await;
    }
}

impl Deref for PgSession {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for PgSession {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Stops the statement that a session runs.
#[derive(Clone)]
pub struct Canceller {
    token: tokio_postgres::CancelToken,
    tls: MakeRustlsConnectDebug,
}

impl Canceller {
    /// Asks the server to stop the statement, if one is running. The session lives on.
    ///
    /// # Errors
    /// The driver's, where the server cannot be asked.
    pub async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        self.token.cancel_query(self.tls.0.clone()).await
    }
}

/// Opens a session and applies its settings, within the url's connect time-out (10 s by default)
/// for each host plus one for TLS and login.
///
/// # Errors
/// A [`ConnectError`] that tells unreachable, refused, unknown database and TLS apart.
pub async fn connect(
    url: &SecretString,
    settings: &SessionSettings,
) -> Result<PgSession, ConnectError> {
    let target = PgTarget::parse(url)?;
    let tls = tls::connector(&target.tls)?;
    let deadline = target.deadline();
    match tokio::time::timeout(deadline, open(&target, settings, tls)).await {
        Ok(opened) => opened.map_err(|error| ConnectError::from_driver(&target, &error)),
        Err(_) => Err(ConnectError::Unreachable {
            address: target.address(),
            problem: format!("no session within {} s", deadline.as_secs()),
        }),
    }
}

async fn open(
    target: &PgTarget,
    settings: &SessionSettings,
    tls: MakeRustlsConnect,
) -> Result<PgSession, tokio_postgres::Error> {
    let mut config = target.config.clone();
    config.application_name(&settings.application_name);
    let (client, connection) = config.connect(tls.clone()).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Whoever uses the client gets the same error from the call that it breaks.
        if let Err(error) = connection.await {
            tracing::debug!(error = %super::describe(&error), "connection ended");
        }
    });
    settings.apply(&client, &config).await?;
    Ok(PgSession {
        client,
        driver,
        address: target.address(),
        tls: MakeRustlsConnectDebug(tls),
    })
}
