//! What the text of a value means under a type: parsed to be compared, or found to be none.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use common::flow::rules::FieldType;

use super::decimal::Decimal;

/// How values of a column are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As exact numbers.
    Number,
    /// As days.
    Date,
    /// As moments; those without a zone as if in UTC.
    Moment,
    /// As moments that must name their zone.
    Zoned,
    /// As 128-bit numbers.
    Uuid,
    /// By bytes, as collation C does.
    Text,
}

/// A value that can be compared with others of the same order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Typed {
    Number(Decimal),
    Date(NaiveDate),
    Moment(NaiveDateTime),
    Uuid(u128),
    Text(Vec<u8>),
}

impl Order {
    /// Reads a value; `None` for what it does not take for one.
    pub(crate) fn parse(self, text: &[u8]) -> Option<Typed> {
        if self == Self::Number {
            return Decimal::parse(text).map(Typed::Number);
        }
        if self == Self::Text {
            return Some(Typed::Text(text.to_vec()));
        }
        let text = std::str::from_utf8(text).ok()?;
        match self {
            Self::Date => date(text).map(Typed::Date),
            Self::Moment => moment(text).map(|(at, _)| Typed::Moment(at)),
            Self::Zoned => moment(text).and_then(|(at, zoned)| zoned.then_some(Typed::Moment(at))),
            Self::Uuid => uuid::Uuid::parse_str(text)
                .ok()
                .map(|id| Typed::Uuid(id.as_u128())),
            Self::Number | Self::Text => None,
        }
    }

    /// The order in which somebody who wrote these values as bounds must see them.
    pub(crate) fn of_written(values: &[&str]) -> Self {
        let all = |order: Self| {
            values
                .iter()
                .all(|text| order.parse(text.as_bytes()).is_some())
        };
        [Self::Number, Self::Date, Self::Moment]
            .into_iter()
            .find(|order| !values.is_empty() && all(*order))
            .unwrap_or(Self::Text)
    }

    /// How PostgreSQL compares keys of a type, where we can do the same.
    pub(crate) fn of_sql(sql_type: &str, collation: Option<&str>) -> Option<Self> {
        let base = sql_type.split('(').next().unwrap_or_default().trim();
        let by_bytes = collation.is_some_and(|name| {
            let name = name.rsplit('.').next().unwrap_or(name);
            matches!(name.trim_matches('"'), "C" | "POSIX")
        });
        match base {
            "smallint" | "integer" | "bigint" | "numeric" => Some(Self::Number),
            "date" => Some(Self::Date),
            "uuid" => Some(Self::Uuid),
            "text" | "character varying" if by_bytes => Some(Self::Text),
            "timestamp" if sql_type.ends_with("with time zone") => Some(Self::Zoned),
            "timestamp" => Some(Self::Moment),
            "timestamp without time zone" => Some(Self::Moment),
            "timestamp with time zone" => Some(Self::Zoned),
            _ => None,
        }
    }
}

fn date(text: &str) -> Option<NaiveDate> {
    // chrono alone would take 2024-1-5 as well.
    (text.len() >= 10)
        .then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
        .flatten()
}

/// A moment in UTC, and whether it named its zone.
fn moment(text: &str) -> Option<(NaiveDateTime, bool)> {
    if let Some(day) = date(text) {
        return day.and_hms_opt(0, 0, 0).map(|at| (at, false));
    }
    let text = text.replacen('T', " ", 1);
    if let Ok(at) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f") {
        return Some((at, false));
    }
    let text = match text.strip_suffix(['Z', 'z']) {
        Some(before) => format!("{before}+00:00"),
        None => text,
    };
    ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"]
        .into_iter()
        .find_map(|format| DateTime::parse_from_str(&text, format).ok())
        .map(|at| (at.naive_utc(), true))
}

/// Whether a text is a value of a declared type.
pub(crate) fn fits(kind: FieldType, text: &[u8]) -> bool {
    let is = |order: Order| order.parse(text).is_some();
    let utf8 = std::str::from_utf8(text);
    match kind {
        FieldType::Bytes => true,
        FieldType::String => utf8.is_ok(),
        FieldType::Boolean => matches!(text, b"true" | b"false" | b"t" | b"f"),
        FieldType::Int => whole(text).is_some_and(|n| i32::try_from(n).is_ok()),
        FieldType::Long => whole(text).is_some(),
        FieldType::Float | FieldType::Double => utf8.is_ok_and(|text| {
            text.parse::<f64>().is_ok() && !text.starts_with(char::is_whitespace)
        }),
        FieldType::Decimal { precision, scale } => Decimal::parse(text).is_some_and(|number| {
            let (before, after) = number.digits();
            let limit = precision
                .unwrap_or(u32::MAX)
                .saturating_sub(scale.unwrap_or(0));
            after <= scale.unwrap_or(u32::MAX) && before <= limit
        }),
        FieldType::Date => is(Order::Date),
        FieldType::TimestampMillis | FieldType::TimestampMicros => {
            let places = utf8
                .ok()
                .and_then(|text| text.split_once('.'))
                .map_or(0, |(_, after)| {
                    after.bytes().take_while(u8::is_ascii_digit).count()
                });
            let most = if kind == FieldType::TimestampMillis {
                3
            } else {
                6
            };
            places <= most && is(Order::Moment)
        }
        FieldType::Uuid => is(Order::Uuid),
    }
}

fn whole(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use common::flow::rules::FieldType as T;

    use super::{Order, fits};

    #[test]
    fn moments_are_those_that_postgresql_prints() {
        let at = |text: &str| Order::Moment.parse(text.as_bytes());
        assert_eq!(at("2024-02-29 10:00:00+02"), at("2024-02-29T08:00:00Z"));
        assert_eq!(
            at("2024-02-29 08:00:00.5"),
            at("2024-02-29 08:00:00.500+00:00")
        );
        assert_eq!(at("2024-02-29"), at("2024-02-29 00:00:00"));
        assert!(at("2024-02-30").is_none() && at("yesterday").is_none());
        assert!(Order::Zoned.parse(b"2024-02-29 10:00:00").is_none());
        assert!(Order::Zoned.parse(b"2024-02-29 10:00:00-03:30").is_some());
    }

    #[test]
    fn types_take_their_values_only() {
        let scaled = T::Decimal {
            precision: Some(5),
            scale: Some(2),
        };
        for (kind, yes, no) in [
            (T::Int, "2147483647", "2147483648"),
            (T::Long, "-9223372036854775808", "1.0"),
            (T::Boolean, "t", "yes"),
            (T::Double, "1e-300", "1,5"),
            (scaled, "999.99", "1000.00"),
            (scaled, "0.10", "0.123"),
            (T::Date, "2024-02-29", "2024-2-29"),
            (
                T::TimestampMillis,
                "2024-02-29 01:02:03.123",
                "2024-02-29 01:02:03.1234",
            ),
            (
                T::TimestampMicros,
                "2024-02-29T01:02:03.123456Z",
                "2024-02-29 25:00:00",
            ),
            (T::Uuid, "6f1c1a52-9a5e-4a5c-8d9c-111111111111", "6f1c"),
        ] {
            assert!(fits(kind, yes.as_bytes()), "{kind} {yes}");
            assert!(!fits(kind, no.as_bytes()), "{kind} {no}");
        }
        assert!(!fits(T::String, b"\xff") && fits(T::Bytes, b"\xff"));
    }

    #[test]
    fn keys_are_compared_as_the_database_does_or_not_at_all() {
        assert_eq!(Order::of_sql("numeric(12,2)", None), Some(Order::Number));
        assert_eq!(
            Order::of_sql("timestamp(3) with time zone", None),
            Some(Order::Zoned)
        );
        assert_eq!(
            Order::of_sql("timestamp without time zone", None),
            Some(Order::Moment)
        );
        assert_eq!(
            Order::of_sql("text", Some("pg_catalog.\"C\"")),
            Some(Order::Text)
        );
        assert_eq!(Order::of_sql("text", Some("\"en_US\"")), None);
        assert_eq!(Order::of_sql("text", None), None);
        assert_eq!(Order::of_sql("double precision", None), None);
        assert_eq!(Order::of_written(&["0", "1e6"]), Order::Number);
        assert_eq!(Order::of_written(&["2024-01-01"]), Order::Date);
        assert_eq!(Order::of_written(&["a", "1"]), Order::Text);
    }
}
