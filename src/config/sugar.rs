//! The short forms, turned into the long form before anything is judged.
//!
//! | short | long |
//! | --- | --- |
//! | `listen` | `listeners.default.address` |
//! | `upstream` | `upstreams.default.servers` |
//! | `issuer` | `issuers.default` |
//! | `refresh` | `issuers.default.refresh` |
//!
//! Both forms of one thing are an error. Reports name the form that was written.

use super::reports::{Problem, Reports};
use super::tree::{Entry, Kind, Node};

/// The short forms, as keys of the file's top level.
pub const SHORT_FORMS: &[&str] = &["listen", "upstream", "issuer", "refresh"];

/// Rewrites the short forms of a whole file; both forms at once are reported.
pub fn resolve(root: &mut Node, reports: &mut Reports) {
    plural(root, reports, "listen", "listeners", Some("address"));
    plural(root, reports, "upstream", "upstreams", Some("servers"));
    plural(root, reports, "issuer", "issuers", None);
    refresh(root, reports);
}

/// `short: X` becomes `long: { default: X }`, or `long: { default: { inner: X } }`.
fn plural(root: &mut Node, reports: &mut Reports, short: &str, long: &str, inner: Option<&str>) {
    let Some(mut entry) = take(root, short) else { return };
    if root.entry(long).is_some() {
        return both(reports, entry, long);
    }
    if entry.value.kind != Kind::Refused {
        let key_id = entry.key_id;
        entry.value.written = Some(short.into());
        let named = match inner {
            Some(inner) => Node::wrap(inner, key_id, entry.value),
            None => entry.value,
        };
        entry.value = Node::wrap("default", key_id, named);
    }
    long.clone_into(&mut entry.key);
    if let Some(entries) = root.entries_mut() {
        entries.push(entry);
    }
}

fn refresh(root: &mut Node, reports: &mut Reports) {
    let Some(mut entry) = take(root, "refresh") else { return };
    entry.value.written = Some("refresh".into());
    let issuers = root.entries_mut().and_then(|entries| {
        entries.iter_mut().find(|entry| entry.key == "issuers").map(|entry| &mut entry.value)
    });
    let Some(issuers) = issuers else {
        return reports.push(
            Some(entry.key_id),
            "refresh",
            Problem::error("there is no issuer whose tokens it could renew")
                .expected("expected beside `issuer`"),
        );
    };
    let default = match &mut issuers.kind {
        Kind::Refused => return,
        Kind::Map(entries) => entries.iter_mut().find(|entry| entry.key == "default"),
        _ => None,
    };
    match default.map(|default| &mut default.value.kind) {
        Some(Kind::Refused) => {}
        Some(Kind::Map(keys)) if keys.iter().any(|other| other.key == "refresh") => {
            both(reports, entry, "issuers.default.refresh");
        }
        Some(Kind::Map(keys)) => keys.push(entry),
        // Reported where the issuer itself is read.
        Some(_) => {}
        None => reports.push(
            Some(entry.key_id),
            "refresh",
            Problem::error(
                "stands for `issuers.default.refresh`, and no issuer is named `default`",
            )
            .expected("expected inside the issuer, as `refresh`"),
        ),
    }
}

fn take(root: &mut Node, key: &str) -> Option<Entry> {
    let entries = root.entries_mut()?;
    let at = entries.iter().position(|entry| entry.key == key)?;
    Some(entries.remove(at))
}

fn both(reports: &mut Reports, entry: Entry, long: &str) {
    let problem = Problem::error(format!("given twice, here and as `{long}`"))
        .expected("expected one of the two forms");
    reports.push(Some(entry.key_id), entry.key, problem);
}
