//! The effective configuration, written as a `gateway.yaml` in the long form.
//!
//! What is written can be read again, and means the same; only secrets that stood in the file are
//! replaced, by the type that holds them.

use serde_yaml::Value;
use serde_yaml::value::Serializer;
use serde_yaml::with::singleton_map_recursive;

use super::interpolate;
use super::raw::Gateway;

const HEAD: &str = "# yaml-language-server: $schema=./gateway.schema.json\n";

/// Writes `gateway` as YAML.
pub fn write(gateway: &Gateway) -> String {
    // Plain serde_yaml would write `keys: { url: … }` as a tagged value.
    let mut value = singleton_map_recursive::serialize(gateway, Serializer).unwrap_or_default();
    escape(&mut value);
    let body = serde_yaml::to_string(&value).unwrap_or_default();
    format!("{HEAD}{body}")
}

/// A literal `${` must not be read as a variable.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = interpolate::escape(text),
        Value::Sequence(items) => items.iter_mut().for_each(escape),
        Value::Mapping(entries) => entries.values_mut().for_each(escape),
        Value::Tagged(tagged) => escape(&mut tagged.value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
