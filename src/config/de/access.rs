//! serde's view of the tree: refused nodes are not there.

use std::cell::RefCell;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::{Fault, Mismatch};
use super::{SECRET, SECRET_IF_UNREAD};
use crate::config::reports::Reports;
use crate::config::tree::{Entry, Kind, Node, NodeId};

/// One node, and the list of nodes that turned out to hold a secret.
#[derive(Clone, Copy)]
pub struct De<'a> {
    pub node: &'a Node,
    pub secrets: &'a RefCell<Vec<NodeId>>,
}

impl<'a> De<'a> {
    fn below(self, node: &'a Node) -> De<'a> {
        De { node, ..self }
    }

    /// What a type finds wrong after the node was visited is wrong with the node, too.
    fn fill<'de, T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self).map_err(|fault| fault.or_at(self.node.id))
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Null | Kind::Refused => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (Err(_), Ok(value)) => visitor.visit_i64(value),
                (Err(_), Err(_)) => visitor.visit_i128(*value),
            },
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(items) => visitor.visit_seq(Items { de: self, items: items.iter() }),
            Kind::Map(entries) => {
                let mut access = Entries { de: self, entries: entries.iter(), current: None };
                let value =
                    visitor.visit_map(&mut access).map_err(|fault| hollow(entries, fault))?;
                match access.next_kept() {
                    Some(left) => Err(Fault::new(Mismatch::Surplus).or_at(left.key_id)),
                    None => Ok(value),
                }
            }
        }
    }
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor).map_err(|fault| fault.or_at(self.node.id))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let hide = || {
            let mut found = Reports::default();
            found.hide(self.node);
            self.secrets.borrow_mut().extend(found.hidden);
        };
        if name == SECRET && !matches!(self.node.kind, Kind::Map(_)) {
            hide();
        }
        let result = visitor.visit_newtype_struct(self);
        if name == SECRET_IF_UNREAD && result.is_err() {
            hide();
        }
        result
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match &self.node.kind {
            Kind::Text(word) => visitor.visit_enum(StrDeserializer::new(word)),
            Kind::Map(entries) => self.choose(entries, known, visitor),
            _ => Err(Fault::new(Mismatch::Type { expected: one_of(known) })),
        };
        result.map_err(|fault| fault.or_at(self.node.id))
    }

    /// serde would also fill a struct from a list, by position.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node.kind {
            Kind::Map(_) => self.deserialize_any(visitor),
            _ => Err(Fault::new(Mismatch::Map).or_at(self.node.id)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl De<'_> {
    /// A map as a choice of one of its keys: all of them known, and only one.
    fn choose<'de, V: Visitor<'de>>(
        self,
        entries: &[Entry],
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut kept = entries.iter().filter(|entry| entry.value.kind != Kind::Refused);
        let unknown = kept.clone().find(|entry| !known.contains(&entry.key.as_str()));
        if let Some(entry) = unknown {
            return Err(Fault::new(Mismatch::Key { known }).or_at(entry.key_id));
        }
        match (kept.next(), kept.next()) {
            (Some(entry), None) => visitor.visit_enum(Choice { de: self, entry }),
            (Some(_), Some(second)) => Err(Fault::new(Mismatch::Surplus).or_at(second.key_id)),
            (None, _) => {
                let fault = Fault::new(Mismatch::Type { expected: one_of(known) });
                Err(hollow(entries, fault))
            }
        }
    }
}

/// A map that fails because all in it is refused has been reported by those reports.
fn hollow(entries: &[Entry], fault: Fault) -> Fault {
    let all_refused = entries.iter().all(|entry| entry.value.kind == Kind::Refused);
    if !entries.is_empty() && all_refused && fault.at.is_none() {
        return Fault::new(Mismatch::Hollow);
    }
    fault
}

fn one_of(known: &[&str]) -> String {
    let words: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

struct Items<'a> {
    de: De<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        match self.items.find(|item| item.kind != Kind::Refused) {
            Some(item) => self.de.below(item).fill(seed).map(Some),
            None => Ok(None),
        }
    }
}

struct Entries<'a> {
    de: De<'a>,
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> Entries<'a> {
    fn next_kept(&mut self) -> Option<&'a Entry> {
        self.entries.find(|entry| entry.value.kind != Kind::Refused)
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.current = self.next_kept();
        let Some(entry) = self.current else { return Ok(None) };
        let key = StrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|fault: Fault| fault.or_at(entry.key_id))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.current.take() {
            Some(entry) => self.de.below(&entry.value).fill(seed),
            None => Err(Fault::new(Mismatch::Other("a value without a key".to_owned()))),
        }
    }
}

/// A map with one key as a choice of that key.
struct Choice<'a> {
    de: De<'a>,
    entry: &'a Entry,
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = Fault;
    type Variant = Chosen<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Chosen<'a>), Fault> {
        let key = StrDeserializer::new(&self.entry.key);
        let variant =
            seed.deserialize(key).map_err(|fault: Fault| fault.or_at(self.entry.key_id))?;
        Ok((variant, Chosen { de: self.de.below(&self.entry.value), key_id: self.entry.key_id }))
    }
}

struct Chosen<'a> {
    de: De<'a>,
    key_id: NodeId,
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        let message = "this is a word, it takes no value".to_owned();
        Err(Fault::new(Mismatch::Other(message)).or_at(self.key_id))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        self.de.fill(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.de.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.de.deserialize_any(visitor)
    }
}
