//! The YAML as a tree in which every node knows where it was read.
//!
//! 1. One parser, `serde_yaml`. It keeps no spans and stops at its first error, so nothing is judged
//!    while it runs: the text becomes a tree, the tree is judged.
//! 2. Keys and values are numbered in the order of reading. [`super::place`] finds a number's line
//!    and column by reading once more, with this same reader, up to that number.
//! 3. Duplicate keys stay in the tree, so that all of them can be reported.
//! 4. Size, depth and number of nodes are bounded; aliases count each time they are used, which is
//!    what stops an alias bomb.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

/// Size of one configuration file.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Maps and lists within each other.
pub const DEPTH_MAX: u8 = 32;
/// Keys and values of one file, aliases counted each time.
pub const NODES_MAX: u32 = 500_000;

/// Where a key or value was read: its file, and its number in the order of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    pub file: u16,
    pub n: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub id: NodeId,
    pub kind: Kind,
    /// The key path as the operator wrote it, where a short form or an included file moved it.
    pub written: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Reported already: nothing below is looked at, and nothing that misses it is reported.
    Refused,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_id: NodeId,
    pub value: Node,
}

impl Node {
    pub fn new(id: NodeId, kind: Kind) -> Node {
        Node { id, kind, written: None }
    }

    /// A map of one entry, made by a short form.
    pub fn wrap(key: &str, key_id: NodeId, value: Node) -> Node {
        let entry = Entry { key: key.to_owned(), key_id, value };
        Node::new(key_id, Kind::Map(vec![entry]))
    }

    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        match &mut self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entry `key` of a map, refused or not.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Marks the node `id`, or the value of the key `id`, as reported. False if there is none.
    pub fn refuse(&mut self, id: NodeId) -> bool {
        if self.id == id {
            self.kind = Kind::Refused;
            return true;
        }
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().any(|item| item.refuse(id)),
            Kind::Map(entries) => entries.iter_mut().any(|entry| {
                if entry.key_id == id && entry.value.kind != Kind::Refused {
                    entry.value.kind = Kind::Refused;
                    return true;
                }
                entry.value.refuse(id)
            }),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Int(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::Refused => false,
        }
    }
}

/// Parses `text` as file number `file`.
///
/// # Errors
/// What the parser says, or one of the bounds; `location()` is the place.
pub fn parse(text: &str, file: u16) -> Result<Node, serde_yaml::Error> {
    read(text, file, None)
}

/// Reads up to node `n` and stops there; the error's `location()` is the place.
pub(super) fn stop_at(text: &str, n: u32) -> Option<serde_yaml::Error> {
    read(text, 0, Some(n)).err()
}

fn read(text: &str, file: u16, stop_at: Option<u32>) -> Result<Node, serde_yaml::Error> {
    let count = Cell::new(0);
    let reader = Reader { count: &count, stop_at, depth: 0, file };
    reader.deserialize(serde_yaml::Deserializer::from_str(text))
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    count: &'a Cell<u32>,
    stop_at: Option<u32>,
    depth: u8,
    file: u16,
}

impl<'a> Reader<'a> {
    /// The next number; an error where reading is to stop.
    fn number<E: serde::de::Error>(&self) -> Result<NodeId, E> {
        let n = self.count.get();
        if self.stop_at == Some(n) {
            return Err(E::custom("stopped here"));
        }
        if n >= NODES_MAX {
            let limit = format!("more than {NODES_MAX} keys and values, counting aliases");
            return Err(E::custom(limit));
        }
        self.count.set(n + 1);
        Ok(NodeId { file: self.file, n })
    }

    fn deeper<E: serde::de::Error>(&self) -> Result<Reader<'a>, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Reader { depth: self.depth + 1, ..*self })
    }

    fn scalar<E: serde::de::Error>(self, kind: Kind) -> Result<Node, E> {
        Ok(Node::new(self.number()?, kind))
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Node, E> {
        self.scalar(Kind::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Node, E> {
        self.scalar(Kind::Int(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        self.scalar(Kind::Int(value.into()))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.scalar(Kind::Int(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.scalar(Kind::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        self.scalar(Kind::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.scalar(Kind::Text(value.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        self.scalar(Kind::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        self.scalar(Kind::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let below = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Node::new(id, Kind::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let below = self.deeper()?;
        let mut entries = Vec::new();
        while let Some((key, key_id)) = access.next_key_seed(KeyReader(below))? {
            let value = access.next_value_seed(below)?;
            entries.push(Entry { key, key_id, value });
        }
        Ok(Node::new(id, Kind::Map(entries)))
    }

    /// A YAML tag (`!name`): nothing here has a use for one.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
        let (IgnoredAny, _) = access.variant()?;
        Err(A::Error::custom("YAML tags (`!name`) are not used here"))
    }
}

struct KeyReader<'a>(Reader<'a>);

impl<'de> DeserializeSeed<'de> for KeyReader<'_> {
    type Value = (String, NodeId);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        struct Numbered<'a>(Reader<'a>);
        impl<'de> Visitor<'de> for Numbered<'_> {
            type Value = (String, NodeId);
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
                Ok((key.to_owned(), self.0.number()?))
            }
        }
        deserializer.deserialize_str(Numbered(self.0))
    }
}
