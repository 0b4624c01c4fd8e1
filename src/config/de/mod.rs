//! From the tree to the structs of [`super::raw`], with every mismatch reported.
//!
//! Deserialisation with serde stops at its first error. So it is done again and again: the error
//! names its node, the node is reported and refused, and what is refused is skipped the next time.
//! The number of rounds is the number of reports, which is bounded. The structs stay plain serde
//! structs; no type of ours has to carry "or was wrong".

mod access;
mod fault;

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use self::access::De;
use self::fault::Mismatch;
use super::later;
use super::reports::{Problem, Reports, Written};
use super::sugar;
use super::tree::{Kind, Node, NodeId};

/// The name under which a secret announces itself to this deserialiser.
pub const SECRET: &str = "$secret";
/// The name of what holds a secret if it is not what it should be.
pub const SECRET_IF_UNREAD: &str = "$secret_if_unread";

/// Reads `tree` as a `T`; `None` if there were too many reports to go on.
pub fn read<T: DeserializeOwned>(tree: &mut Node, reports: &mut Reports) -> Option<T> {
    loop {
        let secrets = RefCell::new(Vec::new());
        let result = T::deserialize(De { node: tree, secrets: &secrets });
        let secrets = secrets.into_inner();
        reports.hidden.extend(secrets);
        let fault = match result {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        let Some(id) = fault.at else {
            reports.push(None, "", Problem::error(fault.mismatch.to_string()));
            return None;
        };
        report(tree, reports, id, &fault.mismatch);
        if !tree.refuse(id) || reports.full() {
            reports.stopped = true;
            return None;
        }
    }
}

fn report(tree: &Node, reports: &mut Reports, id: NodeId, mismatch: &Mismatch) {
    let Some(found) = find(tree, id, Written::default(), &[]) else { return };
    if let Mismatch::Map = mismatch {
        // Nobody knows what a value is that stands where keys belong.
        reports.hide(found.node);
    }
    let hidden = reports.hidden.contains(&id);
    let problem = match mismatch {
        Mismatch::Type { expected } => {
            Problem::error(format!("this is {}", describe(found.node, hidden)))
                .expected(format!("expected {expected}"))
        }
        Mismatch::Map => Problem::error(format!("this is {}", describe(found.node, hidden)))
            .expected("expected a map: keys with values"),
        Mismatch::Value { expected } => {
            Problem::error("this value does not fit here").expected(format!("expected {expected}"))
        }
        Mismatch::Key { known } => {
            // Nobody knows what the value of an unknown key is: it may be a secret.
            reports.hide(found.node);
            unknown_key(&found, known)
        }
        Mismatch::Word { known } => unknown_word(&found, known, hidden),
        Mismatch::Hollow => return,
        Mismatch::Surplus => Problem::error("only one of these keys can be given"),
        Mismatch::Other(message) => Problem::error(message.clone()),
    };
    reports.push(Some(id), found.written.to_string(), problem);
}

fn unknown_key(found: &Found<'_>, known: &[&'static str]) -> Problem {
    let key = found.path.last().copied().unwrap_or_default();
    if later::is_key(&found.path) {
        return Problem::error("not supported yet");
    }
    let short = if found.path.len() == 1 { sugar::SHORT_FORMS } else { &[] };
    let known = known.iter().chain(short).copied();
    Problem::error("unknown key").nearest(key, known)
}

fn unknown_word(found: &Found<'_>, known: &[&'static str], hidden: bool) -> Problem {
    let word = match &found.node.kind {
        Kind::Text(word) => word.as_str(),
        _ => found.path.last().copied().unwrap_or_default(),
    };
    let what = if hidden { "unknown word".to_owned() } else { format!("unknown word `{word}`") };
    Problem::error(what).nearest(word, known.iter().copied())
}

fn describe(node: &Node, hidden: bool) -> String {
    match &node.kind {
        Kind::Null => "empty".to_owned(),
        Kind::Bool(value) => format!("`{value}`"),
        Kind::Int(_) | Kind::Float(_) if hidden => "a number".to_owned(),
        Kind::Int(value) => format!("the number {value}"),
        Kind::Float(value) => format!("the number {value}"),
        Kind::Text(_) if hidden => "text".to_owned(),
        Kind::Text(text) => format!("the text `{}`", text.chars().take(60).collect::<String>()),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a map".to_owned(),
        Kind::Refused => "refused".to_owned(),
    }
}

struct Found<'a> {
    node: &'a Node,
    written: Written,
    /// Keys from the root on, in the long form; list indexes left out.
    path: Vec<&'a str>,
}

/// Finds the node `id`, or the value of the key `id`.
fn find<'a>(
    node: &'a Node,
    id: NodeId,
    mut written: Written,
    path: &[&'a str],
) -> Option<Found<'a>> {
    written.replace(node);
    if node.id == id {
        return Some(Found { node, written, path: path.to_vec() });
    }
    match &node.kind {
        Kind::List(items) => items.iter().enumerate().find_map(|(index, item)| {
            let mut written = written.clone();
            written.item(index);
            find(item, id, written, path)
        }),
        Kind::Map(entries) => entries.iter().find_map(|entry| {
            let mut written = written.clone();
            written.key(&entry.key);
            let path = [path, &[entry.key.as_str()]].concat();
            if entry.key_id == id && entry.value.kind != Kind::Refused {
                return Some(Found { node: &entry.value, written, path });
            }
            find(&entry.value, id, written, &path)
        }),
        _ => None,
    }
}
