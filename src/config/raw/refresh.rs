//! Keys about renewing tokens.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::secret::SecretSource;
use super::values::{List, Period, Word};

/// How tokens of an issuer are renewed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Refresh {
    /// Where an expiring token is renewed. Default: none, nothing is refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `oauth2` (RFC 6749 §6), `cookie` (POST with the backend's own refresh cookie) or `json`.
    pub protocol: Protocol,
    /// Protocol oauth2: the client's id. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Protocol oauth2: the client's secret. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretSource>,
    /// Protocol oauth2: how the client proves itself. Default: `basic` with a secret, else `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// Protocol json: JSON pointer (RFC 6901) to the refresh token in what is sent.
    pub send: String,
    /// Protocol json: JSON pointers to the new tokens in the answer.
    pub receive: Receive,
    /// A token with less left is renewed alongside requests; capped at half of its life.
    pub window: Period,
    /// In the window, how long a response header waits for the new cookies; `0s` never.
    pub hold: Period,
    /// How long a request with an expired token waits.
    pub wait: Period,
    /// How long the call to the backend may take; not shorter than `wait`.
    pub timeout: Period,
    /// What becomes of a refresh token once it was used: `strict`, it works once; `grace`, a few
    /// seconds longer; `reuse_ok`, it goes on working; `none`, the backend never sends a new one.
    /// It decides when the backend is asked again after an answer was lost.
    pub rotation: Rotation,
    /// Answers that mean that the session is over, beside those of the standards. Any one is enough;
    /// an answer that brings tokens is never one. Default: none.
    pub dead_when: Vec<DeadWhen>,
    /// What happens when a spent refresh token is shown: `login`, whoever shows it logs in; `revoke`,
    /// its session ends at this gateway as well, for whoever holds the newest tokens.
    pub on_reuse: OnReuse,
    /// Refreshes a second that the backend is asked for, 1 to 100000. Over it, renewals in the window
    /// wait for a later request, and expired requests queue for `wait`. Default: as many as needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub budget: Option<u32>,
    /// Where a logout revokes the session's refresh token: with protocol oauth2 by RFC 7009, else the
    /// backend's own logout URL, which is asked like `url`; `none`: nobody is asked. Default: the
    /// `revocation_endpoint` of the issuer's discovery document, with protocol oauth2 and `keys:
    /// discovery`, if its `token_endpoint` is `url`; else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_url: Option<String>,
    /// How the browser holds the refresh token.
    pub carrier: Carrier,
    /// The auth backend's own cookie names, for protocol cookie and for `adopt_tokens`.
    pub backend_cookies: BackendCookies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    OAuth2,
    Cookie,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    None,
    Basic,
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    Strict,
    Grace,
    ReuseOk,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnReuse {
    Login,
    Revoke,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    Cookie,
    Path,
    Sealed,
    Server,
}

/// An answer that means that the session is over: all that is named must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadWhen {
    /// HTTP statuses, of which the answer has one. Default: any.
    pub status: List<u16>,
    /// JSON pointer (RFC 6901) to the values of which the answer has one there.
    pub json: BTreeMap<String, List<Word>>,
}

/// JSON pointers to the new tokens: a map with `access` and `refresh`, or a list of these two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receive {
    pub access: String,
    pub refresh: String,
}

/// The auth backend's own cookie names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackendCookies {
    /// Cookie that holds the access token.
    pub access: String,
    /// Cookie that holds the refresh token.
    pub refresh: String,
}

impl Default for Refresh {
    fn default() -> Refresh {
        Refresh {
            url: None,
            protocol: Protocol::OAuth2,
            client_id: None,
            client_secret: None,
            client_auth: None,
            send: "/refresh_token".to_owned(),
            receive: Receive::default(),
            window: Period::seconds(90),
            hold: Period::millis(250),
            wait: Period::seconds(5),
            timeout: Period::seconds(20),
            rotation: Rotation::Strict,
            dead_when: Vec::new(),
            on_reuse: OnReuse::Login,
            budget: None,
            revocation_url: None,
            carrier: Carrier::Cookie,
            backend_cookies: BackendCookies::default(),
        }
    }
}

impl Default for Receive {
    fn default() -> Receive {
        Receive { access: "/access_token".to_owned(), refresh: "/refresh_token".to_owned() }
    }
}

impl Default for BackendCookies {
    fn default() -> BackendCookies {
        BackendCookies { access: "access_token".to_owned(), refresh: "refresh_token".to_owned() }
    }
}

/// [`Receive`] in its long form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
struct Pointers {
    /// The new access token.
    access: String,
    /// The new refresh token; may be absent from the answer.
    refresh: String,
}

impl Default for Pointers {
    fn default() -> Pointers {
        let Receive { access, refresh } = Receive::default();
        Pointers { access, refresh }
    }
}

impl<'de> Deserialize<'de> for Receive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receive, D::Error> {
        deserializer.deserialize_any(ReceiveVisitor)
    }
}

struct ReceiveVisitor;

impl<'de> Visitor<'de> for ReceiveVisitor {
    type Value = Receive;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{ access: POINTER, refresh: POINTER }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Receive, A::Error> {
        let Pointers { access, refresh } =
            Pointers::deserialize(MapAccessDeserializer::new(access))?;
        Ok(Receive { access, refresh })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Receive, A::Error> {
        let pointers = Vec::<String>::deserialize(SeqAccessDeserializer::new(access))?;
        match <[String; 2]>::try_from(pointers) {
            Ok([access, refresh]) => Ok(Receive { access, refresh }),
            Err(_) => Err(A::Error::custom("expected two JSON pointers: access, refresh")),
        }
    }
}

impl JsonSchema for Receive {
    fn schema_name() -> Cow<'static, str> {
        "Receive".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<Pointers>();
        let list = json_schema!({
            "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2,
        });
        json_schema!({ "anyOf": [map, list] })
    }
}
