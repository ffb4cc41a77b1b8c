//! What the demo prints while it runs: lines that stay, and on a terminal a block that is redrawn.
//!
//! Elsewhere the block becomes a plain line now and then. The last line of the program is not
//! printed here: `main` does, after everything is cleaned up.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::{Duration, Instant};

/// How often plain output repeats the state.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The state of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) done: i64,
    pub(crate) chunks: i64,
    pub(crate) running: i64,
    pub(crate) limit: u32,
    pub(crate) waiting_for_retry: i64,
}

/// Where lines go.
pub(crate) struct Console {
    started: Instant,
    live: bool,
    color: bool,
    drawn: usize,
    last_plain: Option<Instant>,
}

impl Console {
    pub(crate) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let live = stdout().is_terminal() && !dumb;
        Self {
            started: Instant::now(),
            live,
            color: live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            drawn: 0,
            last_plain: None,
        }
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs_f64().round() as u64
    }

    /// A step of the demo, with the time.
    pub(crate) fn step(&mut self, text: &str) {
        let at = format!("{:>4} s", self.seconds());
        let text = if self.color {
            format!("\x1b[2m{at}\x1b[0m  {text}")
        } else {
            format!("{at}  {text}")
        };
        self.plain(&text);
    }

    /// A command as a person would type it.
    pub(crate) fn command(&mut self, text: &str) {
        let shown = if self.color {
            format!("\x1b[1m$ {text}\x1b[0m")
        } else {
            format!("$ {text}")
        };
        self.step(&shown);
    }

    /// What a command printed, below its step.
    pub(crate) fn indented(&mut self, text: &str) {
        for line in text.trim_end().lines() {
            self.plain(format!("        {line}").trim_end());
        }
    }

    /// Whether something is true.
    pub(crate) fn check(&mut self, holds: bool, text: &str) {
        let (mark, color) = if holds {
            ("ok    ", 32)
        } else {
            ("FAILED", 31)
        };
        if self.color {
            self.plain(&format!("\x1b[{color}m{mark}\x1b[0m {text}"));
        } else {
            self.plain(&format!("{mark} {text}"));
        }
    }

    /// A line as it is.
    pub(crate) fn plain(&mut self, line: &str) {
        self.wipe();
        self.write(&format!("{line}\n"));
    }

    /// Shows how far it is.
    pub(crate) fn draw(&mut self, stages: &[Stage], workers: &str) {
        if self.live {
            self.redraw(stages, workers);
        } else if self
            .last_plain
            .is_none_or(|last| last.elapsed() >= PLAIN_EVERY)
        {
            self.last_plain = Some(Instant::now());
            let parts: Vec<String> = stages
                .iter()
                .map(|stage| {
                    format!(
                        "{} {}/{} running {}/{}",
                        stage.name, stage.done, stage.chunks, stage.running, stage.limit
                    )
                })
                .collect();
            let line = format!("{}  {workers}", parts.join("  "));
            self.step(&line);
        }
    }

    fn redraw(&mut self, stages: &[Stage], workers: &str) {
        let mut text = String::new();
        for stage in stages {
            let retries = match stage.waiting_for_retry {
                0 => String::new(),
                n => format!("  retry {n}"),
            };
            text += &format!(
                "        {:<8}{} {:>6}/{:<6} running {:>2}/{:<2}{retries}\n",
                stage.name,
                bar(stage.done, stage.chunks),
                stage.done,
                stage.chunks,
                stage.running,
                stage.limit
            );
        }
        text += &format!("        workers {workers}  {} s\n", self.seconds());
        self.wipe();
        self.drawn = text.lines().count();
        self.write(&text);
    }

    /// Takes the block away.
    pub(crate) fn wipe(&mut self) {
        if self.drawn > 0 {
            // Up to the block's first line, then clear to the end of the screen.
            let text = format!("\x1b[{}A\r\x1b[J", self.drawn);
            self.drawn = 0;
            self.write(&text);
        }
    }

    fn write(&mut self, text: &str) {
        let mut out = stdout().lock();
        // A reader that went away is no reason to fail: the exit code still tells.
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

fn bar(done: i64, of: i64) -> String {
    const WIDTH: i64 = 30;
    let full = if of > 0 { done * WIDTH / of } else { 0 }.clamp(0, WIDTH);
    let part = |n: i64, what: &str| what.repeat(usize::try_from(n).unwrap_or(0));
    format!("[{}{}]", part(full, "#"), part(WIDTH - full, "-"))
}

/// A number with commas: 300,005.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(300_005), "300,005");
        assert_eq!(grouped(-1_234_567), "-1,234,567");
    }

    #[test]
    fn a_bar_is_full_only_at_the_end() {
        assert_eq!(bar(999, 1000).matches('#').count(), 29);
        assert_eq!(bar(1000, 1000).matches('#').count(), 30);
        assert_eq!(bar(0, 0).matches('#').count(), 0);
    }
}
