//! `${NAME}` and `${NAME:-default}` in values.
//!
//! The default is taken where the variable is unset or empty, as in a shell. `$${` is a literal
//! `${`. A variable that is unset and has no default is an error: an empty issuer or path would be
//! a hole. Keys are never replaced, and what a variable contains is not looked at again.

use super::reports::{Problem, Reports, Written};
use super::tree::{Kind, Node};

/// Replaces in every text of the tree; what cannot be replaced is reported and refused.
pub fn replace_all(node: &mut Node, env: &dyn Fn(&str) -> Option<String>, reports: &mut Reports) {
    walk(node, Written::default(), env, reports);
}

/// Makes `text` stand for itself, for a file that is written.
pub fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

fn walk(
    node: &mut Node,
    written: Written,
    env: &dyn Fn(&str) -> Option<String>,
    reports: &mut Reports,
) {
    match &mut node.kind {
        Kind::Text(text) => match replace(text, env) {
            Ok(replaced) => *text = replaced,
            Err(problem) => {
                reports.push(Some(node.id), written.to_string(), problem);
                node.kind = Kind::Refused;
            }
        },
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let mut written = written.clone();
                written.item(index);
                walk(item, written, env, reports);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let mut written = written.clone();
                written.key(&entry.key);
                walk(&mut entry.value, written, env, reports);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Refused => {}
    }
}

fn replace(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            replaced.push_str(before);
            replaced.push_str("${");
            rest = after;
            continue;
        }
        let Some((inside, after)) = after.split_once('}') else {
            return Err(Problem::error("`${` without `}`").expected(FORM));
        };
        replaced.push_str(before);
        replaced.push_str(&value(inside, env)?);
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

const FORM: &str = "expected `${NAME}` or `${NAME:-default}`; `$${` is a literal `${`";

fn value(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !well_formed {
        return Err(Problem::error("not the name of a variable").expected(FORM));
    }
    match (env(name), default) {
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (Some(empty), None) => Ok(empty),
        (None, None) => Err(Problem::error(format!("the variable {name} is not set"))
            .expected(format!("set it, or give a default: `${{{name}:-default}}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("app".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        for (text, replaced) in [
            ("http://${HOST}:${PORT:-3000}/", "http://app:3000/"),
            ("${EMPTY:-x}${UNSET:-}", "x"),
            ("[${EMPTY}]", "[]"),
            ("$${HOST} $5 $$", "${HOST} $5 $$"),
            ("${NESTED}", "${HOST}"),
        ] {
            assert_eq!(replace(text, &env).as_deref(), Ok(replaced));
        }
    }

    #[test]
    fn unset_variables_and_bad_forms_are_refused() {
        for text in ["${UNSET}", "${HOST", "${}", "${1A}", "${A B}", "${HOST:x}"] {
            assert!(replace(text, &env).is_err(), "{text}");
        }
    }

    #[test]
    fn an_escaped_text_stands_for_itself() {
        let text = "a ${HOST} $x";
        assert_eq!(replace(&escape(text), &env).as_deref(), Ok(text));
    }
}
