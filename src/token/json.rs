//! JSON from outside, read strictly.
//!
//! 1. Two members of one name are refused at every depth: which of them counts is exactly what an
//!    attacker and a gateway would disagree about (RFC 7515 §4, RFC 7519 §4 let a reader refuse).
//! 2. Nesting is bounded, and nothing may follow the value.
//! 3. Only an object will do: every document this room reads is one.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The members of one object.
pub type Object = Map<String, Value>;

/// Deepest nesting that is read. Real tokens need three or four levels, key sets three.
const DEPTH_MAX: u8 = 16;

/// Reads one JSON object.
///
/// # Errors
/// What `serde_json` says of it; also for a duplicate member, too deep nesting, trailing bytes and
/// anything that is not an object. The text may quote the document: for logs about key sets, never
/// for tokens.
pub fn object(bytes: &[u8]) -> Result<Object, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: DEPTH_MAX }.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(serde_json::Error::custom("expected an object")),
    }
}

/// Builds a [`Value`] as `serde_json` does, but keeps the two rules above.
struct Strict {
    depth_left: u8,
}

impl Strict {
    fn deeper<E: Error>(&self) -> Result<Strict, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Strict { depth_left }),
            None => Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.deeper()?)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.deeper()?)?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate member {name:?}")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text = br#"{"a":[1,-2,1.5,true,null,"x\u00e9"],"b":{"c":{}},"d":18446744073709551615}"#;

        let read = object(text).unwrap();

        assert_eq!(Value::Object(read), serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn duplicate_members_are_refused_at_every_depth_and_however_they_are_spelt() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
        ] {
            let refused = object(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with("duplicate member \"a\""), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        for text in
            ["", "[]", "1", "null", "\"a\"", "{} {}", "{}x", "{", "{'a':1}", r#"{"a":1e400}"#]
        {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn nesting_ends_at_its_bound() {
        let nested =
            |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));

        let deepest = object(nested(15).as_bytes());
        let too_deep = object(nested(16).as_bytes());

        assert!(deepest.is_ok(), "{deepest:?}");
        assert!(too_deep.unwrap_err().to_string().starts_with("nested deeper than 16 levels"));
        assert!(object(&vec![b'['; 1 << 20]).is_err());
        assert_eq!(Value::Object(object(br#"{"a":{}}"#).unwrap()), json!({"a": {}}));
    }
}
