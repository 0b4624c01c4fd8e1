//! Secrets as written: in the file, or where to find them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::config::de::SECRET;
use crate::policy::secret::Secret;

/// A secret, or where it is kept. Written out, a secret itself becomes `[redacted]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    Literal(Secret),
    Elsewhere(Elsewhere),
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Elsewhere {
    /// Path of a file that holds only the secret; one line end at its end is dropped.
    File(String),
    /// Name of an environment variable.
    Env(String),
    /// Name of a systemd credential (`LoadCredential=`), read from `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SecretSource::Literal(secret) => serializer.collect_str(&format_args!("{secret:?}")),
            SecretSource::Elsewhere(elsewhere) => elsewhere.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretSource, D::Error> {
        deserializer.deserialize_newtype_struct(SECRET, SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, `{ file: PATH }`, `{ env: NAME }` or `{ credential: NAME }`")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<SecretSource, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_str<E: Error>(self, secret: &str) -> Result<SecretSource, E> {
        Ok(SecretSource::Literal(Secret::new(secret)))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<SecretSource, A::Error> {
        let elsewhere = Elsewhere::deserialize(MapAccessDeserializer::new(access))?;
        Ok(SecretSource::Elsewhere(elsewhere))
    }
}

impl JsonSchema for SecretSource {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let elsewhere = generator.subschema_for::<Elsewhere>();
        json_schema!({
            "description": "A secret, or where it is kept: a file, an environment variable or a \
                            systemd credential.",
            "anyOf": [{ "type": "string", "writeOnly": true }, elsewhere],
        })
    }
}
