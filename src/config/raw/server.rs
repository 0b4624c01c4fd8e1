//! Keys about the process: listeners, admin, log, limits, shutdown, paths.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{List, Period, Size};

/// One address where requests come in.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// `host:port`, `[::]:port` or `unix:PATH`. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Networks (CIDR) whose `X-Forwarded-*` headers are believed. Default: nobody's.
    pub trusted_proxies: List<String>,
}

/// The private listener for health and metrics.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where `/livez`, `/readyz` and `/metrics` are served; a loopback address.
    pub address: String,
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `auto` is text on a terminal, else JSON.
    pub format: Format,
    /// The least important messages that are logged.
    pub level: Level,
    /// Whether each request is logged.
    pub access: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Auto,
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Bounds on what requests and the process may take.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// All request headers together, 1KiB to 1MiB; over it 431.
    pub max_header_bytes: Size,
    /// Number of request headers, 1 to 256; over it 431.
    #[schemars(range(min = 1, max = 256))]
    pub max_headers: u32,
    /// One access token; over it `token_too_large`.
    pub max_token_bytes: Size,
    /// A request body, for routes that do not say otherwise; over it 413.
    pub max_body: Size,
    /// Entries of the verified-token cache.
    #[schemars(range(min = 1))]
    pub verified_tokens: u32,
    /// Session records kept in memory.
    #[schemars(range(min = 1))]
    pub sessions: u32,
}

/// How the process ends.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long running requests may take to end after SIGTERM.
    pub drain: Period,
}

/// What is done with paths that are not canonical.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// `//`: `refuse`, or `merge` into one `/`.
    pub double_slash: DoubleSlash,
    /// `.` and `..` segments: `refuse`, or `resolve` (RFC 3986 §5.2.4).
    pub dot_segments: DotSegments,
    /// `%2F`: `refuse`, or `keep` it inside its segment, forwarded as it came.
    pub encoded_slash: EncodedSlash,
    /// `;…`: `refuse`, or `java`, left out for matching and forwarded as it came.
    pub parameters: Parameters,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DoubleSlash {
    #[default]
    Refuse,
    Merge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DotSegments {
    #[default]
    Refuse,
    Resolve,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodedSlash {
    #[default]
    Refuse,
    Keep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parameters {
    #[default]
    Refuse,
    Java,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { address: "127.0.0.1:9901".to_owned() }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { format: Format::Auto, level: Level::Info, access: true }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_header_bytes: Size(32 << 10),
            max_headers: 100,
            max_token_bytes: Size(8 << 10),
            max_body: Size(100 << 20),
            verified_tokens: 100_000,
            sessions: 1_000_000,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown { drain: Period::seconds(30) }
    }
}
