//! Keys about the store of session records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretSource;

/// Where session records are kept, so that several gateways act as one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `memory`: this gateway's own, gone with the process; `redis`: shared by all that name the same
    /// one.
    pub kind: Kind,
    /// Kind redis: `redis://host:6379/0`, `redis+sentinel://h1,h2/master` or
    /// `redis+cluster://h1,h2`; `rediss` in place of `redis` speaks TLS. A user may stand before the
    /// host, a password may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Kind redis: the servers' password. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// Kind redis: what records are sealed and refresh tokens are hashed with, 32 bytes or more, the
    /// same for all gateways. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretSource>,
    /// Kind redis: what an expired token gets while the store is away. `deny`: 503, since two gateways
    /// that do not know of each other may show a refresh token twice; `local`: it is renewed all the
    /// same. Default: `deny` if any issuer has `rotation: strict`, else `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Memory,
    Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    Deny,
    Local,
}
