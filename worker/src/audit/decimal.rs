//! Exact decimal numbers of at most 38 digits: compared and added without a binary fraction between.

use std::cmp::Ordering;
use std::fmt;

/// Most digits after the point.
const MAX_SCALE: u32 = 38;

/// `mantissa / 10^scale`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Decimal {
    mantissa: i128,
    scale: u32,
}

impl Decimal {
    /// Reads `12`, `-0.50` or `1.2e6`; `None` for what is no number or has too many digits.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (text, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => {
                let exponent = std::str::from_utf8(&text[at + 1..]).ok()?;
                (&text[..at], exponent.parse::<i32>().ok()?)
            }
            None => (text, 0),
        };
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let mut mantissa = 0_i128;
        let mut scale: Option<u32> = None;
        let mut any = false;
        for byte in digits {
            match byte {
                b'0'..=b'9' => {
                    any = true;
                    mantissa = mantissa
                        .checked_mul(10)?
                        .checked_add(i128::from(byte - b'0'))?;
                    scale = scale.map(|scale| scale + 1);
                }
                b'.' if scale.is_none() => scale = Some(0),
                _ => return None,
            }
        }
        let number = Self {
            mantissa: if negative { -mantissa } else { mantissa },
            scale: scale.unwrap_or(0),
        };
        if !any || number.scale > MAX_SCALE {
            return None;
        }
        number.shifted(exponent)
    }

    /// Times a power of ten.
    fn shifted(self, exponent: i32) -> Option<Self> {
        let scale = i64::from(self.scale) - i64::from(exponent);
        if scale >= 0 {
            let scale = u32::try_from(scale)
                .ok()
                .filter(|scale| *scale <= MAX_SCALE)?;
            return Some(Self { scale, ..self });
        }
        let factor = 10_i128.checked_pow(u32::try_from(-scale).ok()?)?;
        Some(Self {
            mantissa: self.mantissa.checked_mul(factor)?,
            scale: 0,
        })
    }

    /// A whole number.
    pub(crate) fn whole(number: u64) -> Self {
        Self {
            mantissa: i128::from(number),
            scale: 0,
        }
    }

    /// The exact sum; `None` where it has more than 38 digits.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let mantissa = self.at(scale)?.checked_add(other.at(scale)?)?;
        Some(Self { mantissa, scale })
    }

    /// The exact product; `None` where it has more than 38 digits.
    pub(crate) fn times(self, other: Self) -> Option<Self> {
        let scale = (self.scale + other.scale).min(2 * MAX_SCALE);
        Some(Self {
            mantissa: self.mantissa.checked_mul(other.mantissa)?,
            scale: (scale <= MAX_SCALE).then_some(scale)?,
        })
    }

    fn at(self, scale: u32) -> Option<i128> {
        let factor = 10_i128.checked_pow(scale - self.scale)?;
        self.mantissa.checked_mul(factor)
    }

    /// Digits before and after the point, trailing zeros after it not counted.
    pub(crate) fn digits(self) -> (u32, u32) {
        let (mut mantissa, mut scale) = (self.mantissa.unsigned_abs(), self.scale);
        while scale > 0 && mantissa.is_multiple_of(10) {
            mantissa /= 10;
            scale -= 1;
        }
        let all = mantissa.checked_ilog10().map_or(0, |log| log + 1);
        (all.saturating_sub(scale), scale)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        // Whole parts first, so that bringing both to one scale cannot overflow.
        let parts = |number: &Self| {
            let unit = 10_i128.pow(number.scale);
            (
                number.mantissa.div_euclid(unit),
                number.mantissa.rem_euclid(unit),
            )
        };
        let ((whole_a, part_a), (whole_b, part_b)) = (parts(self), parts(other));
        let scale = self.scale.max(other.scale);
        whole_a.cmp(&whole_b).then_with(|| {
            let a = part_a * 10_i128.pow(scale - self.scale);
            a.cmp(&(part_b * 10_i128.pow(scale - other.scale)))
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        let scale = self.scale as usize;
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, part) = padded.split_at(padded.len() - scale);
        write!(f, "{sign}{whole}.{part}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Decimal;

    fn shown(text: &str) -> Option<String> {
        Decimal::parse(text.as_bytes()).map(|number| number.to_string())
    }

    #[test]
    fn numbers_in_all_their_forms() {
        for (text, expected) in [
            ("0", Some("0")),
            ("-0.50", Some("-0.50")),
            ("1e6", Some("1000000")),
            ("1.25E-3", Some("0.00125")),
            (".5", Some("0.5")),
            ("+7.", Some("7")),
            ("", None),
            (".", None),
            ("-", None),
            ("1.2.3", None),
            ("NaN", None),
            ("1e", None),
            ("1e99", None),
            ("0x1", None),
            (" 1", None),
            (
                "99999999999999999999999999999999999999",
                Some("99999999999999999999999999999999999999"),
            ),
            ("999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text:?}");
        }
        let number = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
        assert_eq!(number("1.50"), number("1.5"));
        assert!(number("-1.5") < number("-1.49"));
        assert!(number("1e30") > number("0.00000000000000000000000000000000000001"));
        assert_eq!(number("120.50").digits(), (3, 1));
    }

    proptest! {
        #[test]
        fn sums_and_order_are_those_of_whole_cents(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
            let of = |cents: i64| Decimal::parse(format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100).as_bytes()).unwrap();
            prop_assert_eq!(of(a).plus(of(b)).unwrap(), of(a + b));
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
        }
    }
}
