//! From a node's number to its line and column.
//!
//! `serde_yaml` tells a place only with an error. So the text is read once more, by the reader that
//! made the tree, with the order to stop at that number. That costs a reading for each report;
//! reports are few and bounded, and a second parser with spans of its own could disagree with the
//! first about what the file says.

use super::tree;

/// A place in a file; line and column count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// The place of node `n` of `text`.
pub fn find(text: &str, n: u32) -> Option<Place> {
    from_error(&tree::stop_at(text, n)?)
}

/// The place that an error of the parser names.
pub fn from_error(error: &serde_yaml::Error) -> Option<Place> {
    let location = error.location()?;
    Some(Place { line: location.line(), column: location.column() })
}

/// The line of `text` that `place` is on.
pub fn line_of(text: &str, place: Place) -> Option<&str> {
    text.lines().nth(place.line.checked_sub(1)?)
}

/// How many bytes of `rest`, a line from a token's first character on, belong to the token.
///
/// Good enough for a marker: a quoted scalar ends at its quote, anything else before what ends a
/// plain scalar inside `{ }` and `[ ]`. Never less than one character of a line that has one.
pub fn token_bytes(rest: &str) -> usize {
    let mut chars = rest.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    let quoted = matches!(first, '"' | '\'');
    if matches!(first, '{' | '[') {
        return 1;
    }
    let mut escaped = false;
    for (at, c) in chars {
        let after = rest.get(at..).unwrap_or_default();
        if quoted {
            if c == first && !escaped {
                return at + 1;
            }
            escaped = c == '\\' && !escaped;
        } else if matches!(c, ',' | ']' | '}')
            || after.starts_with(": ")
            || after.starts_with(" #")
            || after == ":"
        {
            return rest.get(..at).unwrap_or_default().trim_end().len();
        }
    }
    rest.trim_end().len().max(first.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::{Kind, Node};

    fn places(text: &str, node: &Node, into: &mut Vec<(String, Place)>) {
        match &node.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    into.push((entry.key.clone(), find(text, entry.key_id.n).unwrap()));
                    places(text, &entry.value, into);
                }
            }
            Kind::List(items) => items.iter().for_each(|item| places(text, item, into)),
            Kind::Text(value) => into.push((value.clone(), find(text, node.id.n).unwrap())),
            _ => {}
        }
    }

    #[test]
    fn every_key_and_value_is_found_where_it_stands() {
        let text = "a: x\nb:\n  - {c: 'é', d: y}\n  - \"z\"\na: again\n";
        let mut found = Vec::new();
        places(text, &tree::parse(text, 0).unwrap(), &mut found);
        let at = |what: &str, line, column| (what.to_owned(), Place { line, column });
        assert_eq!(
            found,
            [
                at("a", 1, 1),
                at("x", 1, 4),
                at("b", 2, 1),
                at("c", 3, 6),
                at("é", 3, 9),
                at("d", 3, 14),
                at("y", 3, 17),
                at("z", 4, 5),
                at("a", 5, 1),
                at("again", 5, 4),
            ]
        );
    }

    #[test]
    fn aliased_values_are_found_at_their_anchor() {
        let text = "a: &x one\nb: *x\n";
        let tree = tree::parse(text, 0).unwrap();
        let aliased = tree.entry("b").unwrap().value.id;
        assert_eq!(find(text, aliased.n), Some(Place { line: 1, column: 4 }));
    }

    #[test]
    fn a_token_ends_where_its_scalar_does() {
        for (rest, token) in [
            ("window: 90s", "window"),
            ("90s  # why", "90s"),
            ("admin, staff]", "admin"),
            ("\"a, b\\\" c\" # why", "\"a, b\\\" c\""),
            ("http://x/y", "http://x/y"),
            ("{ a: b }", "{"),
            ("key:", "key"),
        ] {
            assert_eq!(&rest[..token_bytes(rest)], token);
        }
    }

    #[test]
    fn bombs_and_depth_are_bounded() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(tree::parse(&bomb, 0).unwrap_err().to_string().contains("repetition limit"));
        let long = "- 1\n".repeat(tree::NODES_MAX as usize);
        assert!(tree::parse(&long, 0).unwrap_err().to_string().contains("500000 keys"));
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert!(tree::parse(&deep, 0).unwrap_err().to_string().contains("32 levels"));
        assert!(tree::parse("a: &a [*a]", 0).unwrap_err().to_string().contains("32 levels"));
    }
}
