//! Keys about the apps behind the gateway.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{List, Period};

/// An app behind the gateway.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// URLs of the servers, `http://host:port` or `https://host:port`, without a path. Required.
    pub servers: List<String>,
    /// How long the gateway waits for this upstream.
    pub timeouts: Timeouts,
    /// The `Host` that the app sees: `preserve` (the client's), `upstream` (the server's own) or a
    /// literal name.
    pub host_header: String,
    /// For servers with https.
    pub tls: UpstreamTls,
}

/// How long the gateway waits for an upstream.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Period,
    /// Between two reads of a response.
    pub read: Period,
    /// Between two writes of a request.
    pub write: Period,
    /// How long an unused connection is kept.
    pub idle: Period,
    /// Instead of `read`, on WebSockets and event streams.
    pub stream_idle: Period,
}

/// For servers with https.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// PEM file with the authorities that are trusted. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The name that the certificate must have. Default: the server's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream {
            servers: List::default(),
            timeouts: Timeouts::default(),
            host_header: "preserve".to_owned(),
            tls: UpstreamTls::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Period::seconds(3),
            read: Period::seconds(60),
            write: Period::seconds(60),
            idle: Period::seconds(60),
            stream_idle: Period::seconds(3600),
        }
    }
}
