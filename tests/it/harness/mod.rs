//! What every test stands on: a server, a database of its own, flows, actors and a faulty network.
//!
//! Nothing here judges: a helper does what it is told and panics only where it could not.
#![allow(
    dead_code,
    unused_imports,
    reason = "a shared harness offers more than every build of the tests uses"
)]

pub(crate) mod actor;
pub(crate) mod cluster;
pub(crate) mod db;
pub(crate) mod explained;
pub(crate) mod flow;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod witness;

use std::time::Duration;

use common::runtime::wait;

pub(crate) use actor::{TestLeader, TestWorker, failed, validated};
pub(crate) use db::{Role, TestDb};
pub(crate) use flow::{Shape, TestFlow};
pub(crate) use process::{Daemon, Program, Ran};
pub(crate) use proxy::{Fault, Proxy};
pub(crate) use witness::Witness;

/// How long a condition may take to come true: generous, because it only costs where a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `probe` answers `Some`, or fails the test.
pub(crate) async fn eventually<T, F, Fut>(what: &str, probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    wait::until(LIMIT, Duration::from_millis(10), what, probe)
        .await
        .unwrap()
}
