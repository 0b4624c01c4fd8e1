//! What is wrong with a file, collected while it is read.
//!
//! 1. Nothing stops at the first error: every stage adds its reports and goes on with the rest.
//! 2. A report names a key path; the tree turns it into the path the operator wrote and into a
//!    place. A key that is missing is reported at the key that should hold it.
//! 3. What hangs on something refused is not reported again.
//! 4. Values that may be secret are noted here, so that no shown line contains them.

use std::collections::BTreeSet;
use std::fmt;

use super::tree::{Kind, Node, NodeId};

/// Reports kept of one configuration; the rest is only counted.
pub const REPORTS_MAX: usize = 100;
/// Distance, in changed characters, up to which a word counts as a slip of another.
const SLIP_MAX: usize = 3;

/// A key path in the long form, such as `issuers.default.refresh.window` or `routes[2].path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    /// Counts what was not refused, as the deserialised lists do.
    Item(usize),
}

impl KeyPath {
    pub fn root() -> KeyPath {
        KeyPath::default()
    }

    #[must_use]
    pub fn key(&self, key: &str) -> KeyPath {
        self.step(Step::Key(key.to_owned()))
    }

    #[must_use]
    pub fn item(&self, index: usize) -> KeyPath {
        self.step(Step::Item(index))
    }

    fn step(&self, step: Step) -> KeyPath {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// What is wrong with one key or value, in the operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub what: String,
    /// Shown at the marker: the expected form.
    pub expected: Option<String>,
    /// Shown below: a way out.
    pub help: Option<String>,
    /// The marker goes to the key, not to its value.
    pub about_key: bool,
}

impl Problem {
    pub fn error(what: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            what: what.into(),
            expected: None,
            help: None,
            about_key: false,
        }
    }

    pub fn warning(what: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(what) }
    }

    #[must_use]
    pub fn expected(self, expected: impl Into<String>) -> Problem {
        Problem { expected: Some(expected.into()), ..self }
    }

    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Problem {
        Problem { help: Some(help.into()), ..self }
    }

    #[must_use]
    pub fn about_key(self) -> Problem {
        Problem { about_key: true, ..self }
    }

    /// Names the word of `known` that `word` is probably a slip of, else all of them.
    #[must_use]
    pub fn nearest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Problem {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(word, &known) {
            Some(near) => self.expected(format!("did you mean `{near}`?")),
            None if known.is_empty() => self,
            None => self.help(format!("known here: {}", known.join(", "))),
        }
    }
}

/// The word of `known` that `word` is probably a slip of.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let slips = SLIP_MAX.min(word.chars().count().div_ceil(3));
    known
        .iter()
        .map(|known| (strsim::osa_distance(&word.to_lowercase(), &known.to_lowercase()), *known))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// A problem and the node to mark; `None` is the file as a whole.
#[derive(Clone, Debug)]
pub struct Report {
    pub node: Option<NodeId>,
    pub path: String,
    pub problem: Problem,
}

#[derive(Debug, Default)]
pub struct Reports {
    pub list: Vec<Report>,
    pub dropped: usize,
    /// Reading went no further; there may be more to say.
    pub stopped: bool,
    pub hidden: BTreeSet<NodeId>,
}

impl Reports {
    pub fn push(&mut self, node: Option<NodeId>, path: impl Into<String>, problem: Problem) {
        if self.list.len() < REPORTS_MAX {
            self.list.push(Report { node, path: path.into(), problem });
        } else {
            self.dropped += 1;
        }
    }

    /// Reports at the key path `path`, unless that hangs on something refused.
    pub fn at(&mut self, tree: &Node, path: &KeyPath, problem: Problem) {
        let Some(located) = locate(tree, path) else { return };
        let mark = if problem.about_key { located.key } else { located.mark };
        self.push(mark, located.written.to_string(), problem);
    }

    /// Keeps the value at the key path `path` out of the lines that are shown.
    pub fn hide_at(&mut self, tree: &Node, path: &KeyPath) {
        self.hidden.extend(locate(tree, path).and_then(|located| located.mark));
    }

    pub fn full(&self) -> bool {
        self.list.len() >= REPORTS_MAX
    }

    pub fn has_errors(&self) -> bool {
        self.dropped > 0
            || self.list.iter().any(|report| report.problem.severity == Severity::Error)
    }

    /// Keeps every value at and below `node` out of the lines that are shown.
    pub fn hide(&mut self, node: &Node) {
        match &node.kind {
            Kind::List(items) => items.iter().for_each(|item| self.hide(item)),
            Kind::Map(entries) => entries.iter().for_each(|entry| self.hide(&entry.value)),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Int(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::Refused => {
                self.hidden.insert(node.id);
            }
        }
    }
}

struct Located {
    /// The value, or the key where the value begins on another line or is missing.
    mark: Option<NodeId>,
    key: Option<NodeId>,
    written: Written,
}

/// `None` if the path hangs on something refused.
fn locate(tree: &Node, path: &KeyPath) -> Option<Located> {
    let mut node = tree;
    let mut written = Written::default();
    let mut key = None;
    for (at, step) in path.0.iter().enumerate() {
        let Some((id, next)) = below(node, step, &mut written) else {
            if slipped(node, step) {
                return None;
            }
            path.0.iter().skip(at).for_each(|step| written.step(step));
            return Some(Located { mark: key, key, written });
        };
        written.replace(next);
        key = id.or(key);
        node = next;
    }
    let mark = match node.kind {
        Kind::Refused => return None,
        Kind::Map(_) | Kind::List(_) => key,
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Text(_) => Some(node.id),
    };
    Some(Located { mark, key, written })
}

/// The node one step below, and the key or item it stands at.
fn below<'a>(
    node: &'a Node,
    step: &Step,
    written: &mut Written,
) -> Option<(Option<NodeId>, &'a Node)> {
    match (step, &node.kind) {
        (Step::Key(key), Kind::Map(_)) => {
            let entry = node.entry(key)?;
            written.key(key);
            Some((Some(entry.key_id), &entry.value))
        }
        (Step::Item(index), Kind::List(items)) => {
            let mut kept = items.iter().enumerate().filter(|(_, item)| item.kind != Kind::Refused);
            let (position, item) = kept.nth(*index)?;
            written.item(position);
            Some((Some(item.id), item))
        }
        // A single value where a list may stand.
        (Step::Item(0), Kind::Text(_) | Kind::Bool(_) | Kind::Int(_)) => Some((None, node)),
        _ => None,
    }
}

/// Is what is missing there after all, refused or under a misspelt key?
fn slipped(node: &Node, step: &Step) -> bool {
    match (step, &node.kind) {
        (_, Kind::Refused) => true,
        (Step::Key(key), Kind::Map(entries)) => entries.iter().any(|entry| {
            entry.value.kind == Kind::Refused && nearest(&entry.key, &[key]).is_some()
        }),
        _ => false,
    }
}

/// The key path of a node as the operator wrote it, built while walking to it.
#[derive(Clone, Default)]
pub struct Written(String);

impl Written {
    pub fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push('.');
        }
        self.0.push_str(key);
    }

    pub fn item(&mut self, index: usize) {
        self.0.push_str(&format!("[{index}]"));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Key(key) => self.key(key),
            Step::Item(index) => self.item(*index),
        }
    }

    /// Call at each node: a short form starts the path anew.
    pub fn replace(&mut self, node: &Node) {
        if let Some(written) = &node.written {
            written.as_ref().clone_into(&mut self.0);
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
