//! Keys about the gateway's own cookies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretSource;
use super::values::List;

/// The cookies in which the gateway keeps a browser's tokens.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cookies {
    /// Holds the access token. Default name: `__Host-access`, with `secure: false`
    /// `evergate_access`.
    pub access: Cookie,
    /// Holds the refresh token. Default name: `__Host-refresh`, with `secure: false`
    /// `evergate_refresh`.
    pub refresh: Cookie,
    /// Holds both with `carrier: sealed`, a handle to both with `carrier: server`. Default name:
    /// `__Host-session`, with `secure: false` `evergate_session`.
    pub session: Cookie,
    /// Holds the refresh token of `carrier: path`, which the browser sends to the gateway's refresh
    /// path only. Default name: `__Secure-refresh`, with `secure: false` `evergate_refresh_path`.
    pub refresh_path: Cookie,
    /// Holds, sealed, when the session began and was last used; set only with a limit of `session`.
    /// Default name: `__Host-stamp`, with `secure: false` `evergate_stamp`.
    pub stamp: Cookie,
    /// Secrets that seal what only gateways may read, 32 bytes or more each, the same for all gateways:
    /// the first seals, all open. Default: derived from `store.key`, else drawn at each start.
    pub encryption_keys: List<SecretSource>,
    /// The `SameSite` attribute.
    pub same_site: SameSite,
    /// The `Secure` attribute; `false` only if every listener is on loopback.
    pub secure: bool,
}

/// One cookie's names.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cookie {
    /// The name under which it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Old names, read when the cookie itself is absent. Default: none.
    pub accept: List<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

impl Default for Cookies {
    fn default() -> Cookies {
        Cookies {
            access: Cookie::default(),
            refresh: Cookie::default(),
            session: Cookie::default(),
            refresh_path: Cookie::default(),
            stamp: Cookie::default(),
            encryption_keys: List::default(),
            same_site: SameSite::Lax,
            secure: true,
        }
    }
}
