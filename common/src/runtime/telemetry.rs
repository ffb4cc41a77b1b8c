//! The process's log: lines for people or JSON for machines, always on stderr.
//!
//! Stdout is for data and belongs to the commands. Nothing here filters secrets: they must not be
//! logged in the first place.

use std::env;
use std::io::{self, IsTerminal as _};
use std::panic;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;

/// Names the environment variable with the filter, such as `info,coordinator::loops=debug`.
pub const FILTER_VARIABLE: &str = "ODF_LOG";

/// Names the environment variable with the format: `human` or `json`.
pub const FORMAT_VARIABLE: &str = "ODF_LOG_FORMAT";

/// Without a filter: what we say, and from the database drivers only what is wrong (they pass on
/// the server's notices as INFO).
const DEFAULT_FILTER: &str = "info,tokio_postgres=warn,sqlx=warn";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: coloured when stderr is a terminal and `NO_COLOR` is not set.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is malformed.
    #[error(
        "{FILTER_VARIABLE}={given:?} is no filter: {source}\nhint: a level (error, warn, info, debug, trace), or `info,coordinator=debug`"
    )]
    Filter {
        /// What was given.
        given: String,
        /// What the parser says.
        source: ParseError,
    },
    /// The format is unknown.
    #[error("{FORMAT_VARIABLE}={given:?} is unknown\nhint: human or json")]
    Format {
        /// What was given.
        given: String,
    },
    /// A log was set up before.
    #[error("the log was set up twice: {0}")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Sets up the process's log from the environment; `format` (a flag) wins over `ODF_LOG_FORMAT`.
/// Once per process, before anything else happens.
///
/// # Errors
/// [`TelemetryError`] for a malformed variable or a second call.
pub fn init(format: Option<LogFormat>) -> Result<(), TelemetryError> {
    let value = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let format = choose_format(format, value(FORMAT_VARIABLE).as_deref())?;
    let filter = parse_filter(value(FILTER_VARIABLE).as_deref())?;
    let colour = io::stderr().is_terminal() && value("NO_COLOR").is_none();
    let subscriber = subscriber(format, filter, colour, io::stderr);
    tracing::subscriber::set_global_default(subscriber)?;
    if format == LogFormat::Json {
        log_panics();
    }
    Ok(())
}

fn choose_format(
    flag: Option<LogFormat>,
    variable: Option<&str>,
) -> Result<LogFormat, TelemetryError> {
    match (flag, variable) {
        (Some(format), _) => Ok(format),
        (None, None | Some("human")) => Ok(LogFormat::Human),
        (None, Some("json")) => Ok(LogFormat::Json),
        (None, Some(other)) => Err(TelemetryError::Format {
            given: other.into(),
        }),
    }
}

fn parse_filter(given: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let given = given.unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder()
        .parse(given)
        .map_err(|source| TelemetryError::Filter {
            given: given.into(),
            source,
        })
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let common = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colour);
    match format {
        LogFormat::Human => Box::new(common.finish()),
        LogFormat::Json => Box::new(common.json().flatten_event(true).finish()),
    }
}

/// Makes a panic one more JSON line: a reader of JSON lines would drop the usual text.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        let words = info.payload_as_str().unwrap_or("without words");
        tracing::error!(panic.at = %at, "panic: {words}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: Option<&str>, talk: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let filter = parse_filter(filter).unwrap();
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, talk);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_json_with_their_fields_and_spans() {
        let text = logged(LogFormat::Json, None, || {
            let span = tracing::info_span!("claim", chunk.id = 7);
            span.in_scope(|| tracing::info!(fence = 3, "claimed \"a\nb\""));
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "claimed \"a\nb\"");
        assert_eq!(line["fence"], 3);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["chunk.id"], 7);
    }

    #[test]
    fn the_default_filter_keeps_the_drivers_quiet() {
        let talk = || {
            tracing::debug!("too much");
            tracing::info!(target: "tokio_postgres::connection", "NOTICE");
            tracing::warn!(target: "sqlx::query", "slow");
            tracing::info!("ours");
        };
        let text = logged(LogFormat::Human, None, talk);
        assert!(text.contains("ours") && text.contains("slow"), "{text}");
        assert!(
            !text.contains("NOTICE") && !text.contains("too much"),
            "{text}"
        );
        let text = logged(LogFormat::Human, Some("debug"), talk);
        assert!(
            text.contains("NOTICE") && text.contains("too much"),
            "{text}"
        );
    }

    #[test]
    fn the_flag_wins_and_nonsense_is_refused() {
        let chosen = |flag, variable| choose_format(flag, variable).ok();
        assert_eq!(chosen(None, None), Some(LogFormat::Human));
        assert_eq!(chosen(None, Some("json")), Some(LogFormat::Json));
        let human = Some(LogFormat::Human);
        assert_eq!(chosen(human, Some("json")), human);
        let text = choose_format(None, Some("yaml")).unwrap_err().to_string();
        assert!(text.contains("ODF_LOG_FORMAT=\"yaml\""), "{text}");
        let text = parse_filter(Some("a=b=c")).unwrap_err().to_string();
        assert!(text.contains("hint: a level"), "{text}");
    }
}
