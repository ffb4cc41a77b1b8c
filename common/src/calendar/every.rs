//! How long a calendar window is: the words of `every:` and nothing about where windows lie.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A calendar window's length. Written `hour`, `6 hours`, `day`, `week`, `month`, `3 months`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Every {
    /// So many hours of the clock; divides 24, so that a day holds whole windows.
    Hours(u32),
    /// A day of the calendar: 23, 24 or 25 hours, or what else its zone decreed.
    Day,
    /// Seven days of the calendar.
    Week,
    /// So many months; divides 12, so that a year holds whole windows.
    Months(u32),
}

/// What `every:` takes, for messages.
pub const EXPECTED: &str = "hour, day, week or month, or a multiple that tiles: \
                            2, 3, 4, 6, 8 or 12 hours, 2, 3, 4, 6 or 12 months";

/// A length that does not tile a day or a year.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {EXPECTED}, found {0:?}")]
pub struct NotEvery(pub String);

impl FromStr for Every {
    type Err = NotEvery;

    fn from_str(text: &str) -> Result<Self, NotEvery> {
        let refuse = || NotEvery(text.to_owned());
        let (count, unit) = match text.trim().split_once(char::is_whitespace) {
            Some((count, unit)) => (count.parse::<u32>().map_err(|_| refuse())?, unit.trim()),
            None => (1, text.trim()),
        };
        let tiles = |whole: u32| count > 0 && whole.is_multiple_of(count);
        match unit {
            "hour" | "hours" if tiles(24) && count < 24 => Ok(Self::Hours(count)),
            "day" | "days" if count == 1 => Ok(Self::Day),
            "week" | "weeks" if count == 1 => Ok(Self::Week),
            "month" | "months" if tiles(12) => Ok(Self::Months(count)),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hours(1) => f.write_str("hour"),
            Self::Hours(n) => write!(f, "{n} hours"),
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Months(1) => f.write_str("month"),
            Self::Months(n) => write!(f, "{n} months"),
        }
    }
}

impl TryFrom<String> for Every {
    type Error = NotEvery;

    fn try_from(text: String) -> Result<Self, NotEvery> {
        text.parse()
    }
}

impl From<Every> for String {
    fn from(every: Every) -> Self {
        every.to_string()
    }
}
