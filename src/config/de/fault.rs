//! Why a node does not fit the struct it is read into.
//!
//! Says what was expected. What was found, and whether it may be shown, is known by who reports it.

use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::config::tree::NodeId;

#[derive(Debug)]
pub enum Mismatch {
    Type {
        expected: String,
    },
    /// A struct is read from keys and from nothing else.
    Map,
    /// The type fits, the value does not: a number out of range.
    Value {
        expected: String,
    },
    /// An unknown key.
    Key {
        known: &'static [&'static str],
    },
    /// An unknown word.
    Word {
        known: &'static [&'static str],
    },
    /// One key more than a choice takes.
    Surplus,
    /// All that was in this map is refused and reported already.
    Hollow,
    Other(String),
}

#[derive(Debug)]
pub struct Fault {
    /// The node that does not fit, or the key.
    pub at: Option<NodeId>,
    pub mismatch: Mismatch,
}

impl Fault {
    pub fn new(mismatch: Mismatch) -> Fault {
        Fault { at: None, mismatch }
    }

    /// The innermost node wins.
    pub fn or_at(self, id: NodeId) -> Fault {
        Fault { at: self.at.or(Some(id)), ..self }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Type { expected } | Mismatch::Value { expected } => {
                write!(f, "expected {expected}")
            }
            Mismatch::Map => f.write_str("expected a map"),
            Mismatch::Key { .. } => f.write_str("unknown key"),
            Mismatch::Word { .. } => f.write_str("unknown word"),
            Mismatch::Surplus => f.write_str("only one of these keys can be given"),
            Mismatch::Hollow => f.write_str("nothing is left in this map"),
            Mismatch::Other(message) => f.write_str(message),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mismatch.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault::new(Mismatch::Other(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::new(Mismatch::Type { expected: in_words(&expected.to_string()) })
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::new(Mismatch::Value { expected: in_words(&expected.to_string()) })
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Fault {
        Fault::new(Mismatch::Word { known })
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Fault {
        Fault::new(Mismatch::Key { known })
    }
}

/// What serde calls the expected type, in the words of YAML.
fn in_words(expected: &str) -> String {
    match expected {
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a string" => "text, in quotes where it looks like something else",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        _ if expected.contains("enum") => "a word or a map with one key",
        other => other,
    }
    .to_owned()
}
