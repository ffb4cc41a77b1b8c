//! Watching a started script to the end of its whole tree: time-outs, the worker's wishes, progress.
//!
//! It asks the guard to stop things and waits for the guard's word; it never signals by itself.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::outcome::{Ending, Ours};
use crate::attempt::progress::ProgressFile;
use crate::attempt::{AttemptControl, Failure};
use crate::guard::{GuardedScript, KeeperEvent, Stop};

/// Between two looks at the progress file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After KILL, so long until a tree that does not die is given up on.
const DIES_WITHIN: Duration = Duration::from_secs(30);

/// What a job allows its script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub(super) timeout: Option<Duration>,
    pub(super) kill_grace: Duration,
}

/// Follows a script until no process of it is left.
pub(super) async fn watch(
    script: GuardedScript,
    control: &AttemptControl,
    allowance: Allowance,
    progress: &Path,
) -> Ending {
    let mut watch = Watch {
        script,
        control,
        allowance,
        ending: Ending::default(),
        progress: ProgressFile::new(progress),
        started: Instant::now(),
        termed: None,
        killed: None,
    };
    watch.follow().await;
    watch.report_progress(true);
    watch.ending
}

struct Watch<'a> {
    script: GuardedScript,
    control: &'a AttemptControl,
    allowance: Allowance,
    ending: Ending,
    progress: ProgressFile,
    started: Instant,
    termed: Option<Instant>,
    killed: Option<Instant>,
}

impl Watch<'_> {
    async fn follow(&mut self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (may_term, may_kill) = (self.termed.is_none(), self.killed.is_none());
            let deadline = self.deadline();
            tokio::select! {
                biased;
                event = self.script.next_event() => if self.hear(event) { return },
                () = self.control.kill.cancelled(), if may_kill => {
                    self.ending.ours.get_or_insert(Ours::Asked);
                    self.kill();
                }
                () = self.control.term.cancelled(), if may_term && may_kill => {
                    if self.has_exited() {
                        // Its work is done: only what lingers has to go.
                        self.kill();
                    } else {
                        self.ending.ours.get_or_insert(Ours::Asked);
                        self.term();
                    }
                }
                () = until(deadline) => if self.pass_deadline() { return },
                _ = looks.tick() => self.report_progress(false),
            }
        }
    }

    /// Takes in an event; `true` when it is the last.
    fn hear(&mut self, event: Option<KeeperEvent>) -> bool {
        match event {
            Some(KeeperEvent::Exited { code, signal }) => {
                self.ending.code = code;
                self.ending.signal = signal;
                false
            }
            Some(KeeperEvent::Stuck { pids }) => {
                tracing::warn!(?pids, "processes of an attempt do not die of SIGKILL");
                false
            }
            Some(KeeperEvent::Gone { leftovers, fault }) => {
                self.ending.leftovers = leftovers;
                self.ending.fault = fault.map(Failure::transient);
                true
            }
            Some(KeeperEvent::Spawned { .. } | KeeperEvent::Refused { .. }) => false,
            None => {
                let reason = self.script.guard_lost().unwrap_or_default();
                self.ending.fault = Some(Failure::host(format!(
                    "the guard process of this worker is gone and its scripts with it: {reason}"
                )));
                // Ended it is, as the worker asked; nothing else that it seemed to be counts.
                self.ending.ours = self.ending.ours.filter(|ours| *ours == Ours::Asked);
                true
            }
        }
    }

    /// When something has to be done if nothing happens: the end of the grace, of our patience,
    /// or of the time that the job allows.
    fn deadline(&self) -> Option<Instant> {
        match (self.killed, self.termed) {
            (Some(killed), _) => Some(killed + DIES_WITHIN),
            (None, Some(termed)) => Some(termed + self.allowance.kill_grace),
            // What has exited by itself in time has not timed out, whatever lingers.
            (None, None) if self.has_exited() => None,
            (None, None) => self
                .allowance
                .timeout
                .and_then(|timeout| self.started.checked_add(timeout)),
        }
    }

    fn has_exited(&self) -> bool {
        self.ending.code.is_some() || self.ending.signal.is_some()
    }

    /// `true` when there is nothing more to wait for.
    fn pass_deadline(&mut self) -> bool {
        if self.killed.is_some() {
            self.ending.ours = None;
            self.ending.fault = Some(Failure::host(format!(
                "processes of the attempt do not die of SIGKILL within {} s: the system call they are in does not return (hint: look for a hung mount)",
                DIES_WITHIN.as_secs()
            )));
            return true;
        }
        if self.termed.is_some() {
            self.kill();
        } else {
            let limit = self.allowance.timeout.unwrap_or_default();
            self.ending.ours.get_or_insert(Ours::TimedOut(limit));
            self.term();
        }
        false
    }

    fn term(&mut self) {
        self.termed = Some(Instant::now());
        self.script.stop(Stop::Term);
    }

    fn kill(&mut self) {
        self.killed = Some(Instant::now());
        self.script.stop(Stop::Kill);
    }

    fn report_progress(&mut self, ended: bool) {
        if let Some(progress) = self.progress.look(ended) {
            self.control.progress.send_replace(progress);
        }
    }
}

/// Waits for a moment; for ever where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
