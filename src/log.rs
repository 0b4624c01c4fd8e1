//! Logging: one line an event, JSON or text, to standard output.
//!
//! Never a token, cookie, code, key, query or body. Libraries that speak through `log` are not
//! listened to at all: Pingora prints whole heads there, and what it does to print them panics on
//! bytes that are no UTF-8.

use std::io::IsTerminal;

use tracing::subscriber::set_global_default;
use tracing_subscriber::EnvFilter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

impl Format {
    /// Text for a person at a terminal, JSON for everything else.
    pub fn detect() -> Format {
        if std::io::stdout().is_terminal() { Format::Text } else { Format::Json }
    }
}

/// Installs the process's logger. A second call (tests start several gateways) changes nothing.
///
/// Not by `try_init`, which also listens to `log` and so makes its macros evaluate what they print,
/// even where a filter then drops the line.
///
/// `records`: access and audit lines are written whatever the level. They have switches of their
/// own, and an audit that vanishes when somebody quietens the log is none.
pub fn install(format: Format, level: tracing::Level, records: bool) {
    // What a library says at `error` about a broken connection is not an operator's alarm: the
    // access log has the same fact with its request.
    let records = if records { ",access=info,audit=info" } else { "" };
    let filter = EnvFilter::new(format!("{level},hyper=warn,h2=warn{records}"));
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
    let installed = match format {
        Format::Json => {
            set_global_default(logger.json().flatten_event(true).with_current_span(false).finish())
        }
        Format::Text => {
            set_global_default(logger.with_ansi(std::io::stdout().is_terminal()).finish())
        }
    };
    drop(installed);
}
