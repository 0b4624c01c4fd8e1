//! Keys about who signs tokens.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::refresh::Refresh;
use super::secret::SecretSource;
use super::values::{List, Period};
use crate::config::de::SECRET_IF_UNREAD;

/// Who signs tokens, and what makes one good.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Issuer {
    /// The expected `iss`, byte for byte. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// At least one of these must be in `aud`. Required: there is no safe default.
    pub audience: List<String>,
    /// Client ids at the issuer that a back-channel logout may be for, beside `audience` and
    /// `refresh.client_id`. Default: none.
    #[serde(skip_serializing_if = "is_empty")]
    pub logout_audience: List<String>,
    /// Where the verification keys come from: `discovery`, or a map with one of `url`, `file`,
    /// `pem`, `secret`.
    #[serde(deserialize_with = "keys")]
    pub keys: Keys,
    /// Accepted signature algorithms. Default: RS256, PS256, ES256, EdDSA; with `keys.secret`
    /// HS256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<List<Algorithm>>,
    /// How far clocks may differ, for `nbf` and `iat`, at most 10m; `exp` has no leeway.
    pub leeway: Period,
    /// Accepted `typ` headers, with or without `application/`. A token without one counts as JWT.
    pub token_types: List<String>,
    /// Where the token holds what the gateway needs to know.
    pub claims: Claims,
    /// How the key set is kept fresh.
    pub jwks: Jwks,
    /// How tokens of this issuer are renewed. Short form, for the issuer `default`: `refresh`.
    pub refresh: Refresh,
}

/// Where verification keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// OpenID Connect discovery at the issuer's `url`.
    Discovery,
    /// URL of a JWK set.
    Url(String),
    /// Path of a file with a JWK set.
    File(String),
    /// A PEM public key or certificate.
    Pem(String),
    /// A secret shared with the issuer, for HS256, HS384 and HS512.
    Secret(SecretSource),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

/// Where the token holds what the gateway needs to know: dotted paths, of which the first that is
/// present wins.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// The user's name.
    pub user: List<String>,
    /// The user's address.
    pub email: List<String>,
    /// The user's roles or groups.
    pub roles: List<String>,
    /// The token's scopes.
    pub scopes: List<String>,
}

/// How the key set is kept fresh.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Jwks {
    /// Age at which the set is fetched again in the background.
    pub ttl: Period,
    /// At most one fetch in this time, whatever strangers send.
    pub min_interval: Period,
    /// Age up to which the last good set serves while the issuer is down.
    pub max_stale: Period,
}

fn is_empty(list: &List<String>) -> bool {
    list.0.is_empty()
}

/// Who gives a secret in place of a map must not see it in an error.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
    struct Unwrap;
    impl<'de> Visitor<'de> for Unwrap {
        type Value = Keys;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`discovery`, or a map with `url`, `file`, `pem` or `secret`")
        }
        fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Keys, D::Error> {
            Keys::deserialize(d)
        }
    }
    deserializer.deserialize_newtype_struct(SECRET_IF_UNREAD, Unwrap)
}

impl Default for Issuer {
    fn default() -> Issuer {
        Issuer {
            url: None,
            audience: List::default(),
            logout_audience: List::default(),
            keys: Keys::Discovery,
            algorithms: None,
            leeway: Period::seconds(30),
            token_types: List::of(&["at+jwt", "JWT"]),
            claims: Claims::default(),
            jwks: Jwks::default(),
            refresh: Refresh::default(),
        }
    }
}

impl Default for Claims {
    fn default() -> Claims {
        Claims {
            user: List::of(&["sub"]),
            email: List::of(&["email"]),
            roles: List::of(&["roles", "groups"]),
            scopes: List::of(&["scope", "scp"]),
        }
    }
}

impl Default for Jwks {
    fn default() -> Jwks {
        Jwks {
            ttl: Period::seconds(600),
            min_interval: Period::seconds(30),
            max_stale: Period::seconds(24 * 3600),
        }
    }
}
