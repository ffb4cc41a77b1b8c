//! Sizes and durations as people write them in a flow file: `2TB`, `200MiB`, `90s`, `2h 30m`.
//!
//! Decimal units are powers of 1,000 and binary units powers of 1,024.

/// Parses a size such as `10GB`, `512 MiB` or `1000` into bytes.
///
/// # Errors
/// A sentence that says what was expected, where the text is not a number with a known unit
/// or does not fit in 63 bits.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits_end = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits_end);
    let expected = || format!("expected a size such as 500MB, 2TB or 64MiB, found {text:?}");
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "p" | "pb" => 1e15,
        "kib" => 1024.0,
        "mib" => 1024.0_f64.powi(2),
        "gib" => 1024.0_f64.powi(3),
        "tib" => 1024.0_f64.powi(4),
        _ => return Err(expected()),
    };
    let value: f64 = number.parse().map_err(|_| expected())?;
    let bytes = value * factor;
    if !bytes.is_finite() || bytes > i64::MAX as f64 {
        return Err(format!(
            "a size of at most 8 EiB was expected, found {text:?}"
        ));
    }
    Ok(bytes.round() as u64)
}

/// Prints bytes with a decimal unit and at most one digit after the point: `2.1 TB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::{format_bytes, parse_bytes};

    #[test]
    fn sizes_are_read_with_decimal_and_binary_units() {
        assert_eq!(parse_bytes("2TB"), Ok(2_000_000_000_000));
        assert_eq!(parse_bytes("64 MiB"), Ok(67_108_864));
        assert_eq!(parse_bytes("1000"), Ok(1000));
        assert!(parse_bytes("12 parsecs").is_err());
        assert!(parse_bytes("").is_err());
        assert!(parse_bytes("99999999PB").is_err());
    }

    #[test]
    fn sizes_are_printed_with_the_unit_that_fits() {
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(2_100_000_000_000), "2.1 TB");
        assert_eq!(format_bytes(999_960), "1.0 MB");
    }
}
