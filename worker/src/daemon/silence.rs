//! Fencing ourselves off: an attempt whose worker is not heard any more ends before its lease does.
//!
//! At 0.6 of the job's silence an attempt gets TERM and never publishes again, at 0.8 KILL; the
//! lease itself comes free after the whole of it. An answered beat starts the count again for all
//! that was not told to end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::Daemon;
use super::running::Firmness;

/// The part of the silence after which an attempt is told to end.
pub(crate) const TERM_AT: f64 = 0.6;
/// The part of the silence after which it is killed.
pub(crate) const KILL_AT: f64 = 0.8;
/// Between two looks: small against the shortest silence (5 s).
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Watches until the loops end.
pub(crate) async fn watch(daemon: Arc<Daemon>) -> Result<(), Infallible> {
    while daemon
        .sleep(LOOK_EVERY.div_f64(daemon.config.liveness.scale.clamp(1.0, 4.0)))
        .await
    {
        look(&daemon);
    }
    Ok(())
}

fn look(daemon: &Daemon) {
    let mut told = 0_usize;
    let mut longest = Duration::ZERO;
    for held in daemon.running.all_alive() {
        let age = held.unheard();
        let firmness = if age >= held.silence.mul_f64(KILL_AT) {
            Firmness::Kill
        } else if age >= held.silence.mul_f64(TERM_AT) {
            Firmness::Term
        } else {
            continue;
        };
        if !held.is_stopped() {
            told += 1;
            longest = longest.max(age);
        }
        let why = format!(
            "the control database was not heard for {:.1} s",
            age.as_secs_f64()
        );
        held.fence_off(firmness, &why);
    }
    if told > 0 {
        tracing::warn!(
            attempts = told,
            "ending attempts before their leases end: the control database was not heard for {:.1} s",
            longest.as_secs_f64()
        );
    }
}
