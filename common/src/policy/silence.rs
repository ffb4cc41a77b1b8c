//! Who has fallen silent: how long a session's beat number has not changed, by one listener's clock.
//!
//! Silence is counted by the listener alone, so no host's clock can shorten it. Whatever could have
//! kept the listener itself from hearing (a gap between its looks, a new listener, a restart of the
//! server) starts every count again: a session is never declared dead for somebody else's absence.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::SessionId;

/// One look at the beat numbers.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// When, by the listener's monotonic clock.
    pub at: Instant,
    /// What identifies this start of the server.
    pub server_start: &'a str,
    /// How far a test has moved the clock so far.
    pub moved: Duration,
    /// Every session that should be heard and its beat number.
    pub beats: &'a [(SessionId, i64)],
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    beat_no: i64,
    since: Instant,
    moved: Duration,
}

/// What a listener remembers between looks.
#[derive(Debug, Default)]
pub struct Silence {
    heard: HashMap<SessionId, Heard>,
    last: Option<(Instant, String)>,
}

impl Silence {
    /// Takes a look and answers every session with its beat number and how long it has been silent.
    ///
    /// Two looks more than `gap` apart start every count again.
    pub fn look(&mut self, look: Look<'_>, gap: Duration) -> Vec<(SessionId, i64, Duration)> {
        let broken = self.last.as_ref().is_none_or(|(at, server)| {
            look.at.duration_since(*at) > gap || server != look.server_start
        });
        if broken {
            self.heard.clear();
        }
        self.last = Some((look.at, look.server_start.to_owned()));
        let before = std::mem::take(&mut self.heard);
        look.beats
            .iter()
            .map(|&(session, beat_no)| {
                let heard = match before.get(&session) {
                    Some(heard) if heard.beat_no == beat_no => *heard,
                    _ => Heard {
                        beat_no,
                        since: look.at,
                        moved: look.moved,
                    },
                };
                self.heard.insert(session, heard);
                let silent =
                    look.at.duration_since(heard.since) + look.moved.saturating_sub(heard.moved);
                (session, beat_no, silent)
            })
            .collect()
    }

    /// Forgets everything, as a new leader does.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_secs(10);

    fn look(at: Instant, server_start: &str, beat: i64) -> Look<'_> {
        // Leaked on purpose: a handful of bytes in a test, and `Look` borrows its beats.
        let beats = Box::leak(Box::new([(SessionId(1), beat)]));
        Look {
            at,
            server_start,
            moved: Duration::ZERO,
            beats,
        }
    }

    #[test]
    fn an_unchanged_beat_number_is_silence_and_a_new_one_ends_it() {
        let start = Instant::now();
        let mut silence = Silence::default();
        assert_eq!(silence.look(look(start, "a", 1), GAP)[0].2, Duration::ZERO);
        let later = start + Duration::from_secs(4);
        assert_eq!(
            silence.look(look(later, "a", 1), GAP)[0].2,
            Duration::from_secs(4)
        );
        assert_eq!(silence.look(look(later, "a", 2), GAP)[0].2, Duration::ZERO);
    }

    #[test]
    fn a_gap_or_a_restart_of_the_server_starts_the_count_again() {
        let start = Instant::now();
        let mut silence = Silence::default();
        silence.look(look(start, "a", 1), GAP);
        let after_gap = start + Duration::from_secs(11);
        assert_eq!(
            silence.look(look(after_gap, "a", 1), GAP)[0].2,
            Duration::ZERO
        );
        let after_restart = after_gap + Duration::from_secs(3);
        assert_eq!(
            silence.look(look(after_restart, "b", 1), GAP)[0].2,
            Duration::ZERO
        );
    }

    #[test]
    fn a_moved_clock_counts_as_time() {
        let start = Instant::now();
        let mut silence = Silence::default();
        silence.look(look(start, "a", 1), GAP);
        let moved = Look {
            moved: Duration::from_secs(60),
            ..look(start, "a", 1)
        };
        assert_eq!(silence.look(moved, GAP)[0].2, Duration::from_secs(60));
    }
}
