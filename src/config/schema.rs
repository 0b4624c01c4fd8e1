//! The JSON schema of `gateway.yaml`, for editors.
//!
//! Made from the structs of [`super::raw`], so that it cannot say anything else than they do. Two
//! things are changed: a key cannot be null, and the short forms are allowed beside the long ones.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Map, Value, json};

use super::raw::Gateway;

/// The JSON schema of `gateway.yaml`, as text with a final line end.
pub fn schema() -> String {
    let settings = SchemaSettings::draft07().with_transform(RecursiveTransform(no_null));
    let mut schema = settings.into_generator().into_root_schema_for::<Gateway>();
    RecursiveTransform(one_line).transform(&mut schema);
    short_forms(&mut schema);
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text + "\n"
}

/// An optional key is left out; it is never `null`.
fn no_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// Doc comments are wrapped for readers of the code.
fn one_line(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
}

fn short_forms(schema: &mut Schema) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    let definition = |name: &str| format!("#/definitions/{name}");
    let mut add = |key: &str, description: &str, value: Value| {
        let mut entry = Map::new();
        entry.insert("description".to_owned(), json!(description));
        if let Value::Object(value) = value {
            entry.extend(value);
        }
        properties.insert(key.to_owned(), Value::Object(entry));
    };
    add("listen", "Short form of `listeners.default.address`.", json!({ "type": "string" }));
    add(
        "upstream",
        "Short form of `upstreams.default.servers`.",
        json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] }),
    );
    add(
        "issuer",
        "Short form of `issuers.default`.",
        json!({ "allOf": [{ "$ref": definition("Issuer") }] }),
    );
    add(
        "refresh",
        "Short form of `issuers.default.refresh`.",
        json!({ "allOf": [{ "$ref": definition("Refresh") }] }),
    );
}
