//! From files to a checked configuration, or to everything that is wrong with them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::diagnostics::{Diagnostics, Source};
use super::lower::{Context, Surroundings, lower};
use super::place::Place;
use super::raw::Gateway;
use super::reports::{Problem, Reports, Written};
use super::tree::{self, FILE_BYTES_MAX, Kind, Node};
use super::{Config, de, fill, interpolate, long_form, place, sugar};

/// Files that one configuration may include.
const INCLUDES_MAX: usize = 64;

/// A configuration without errors.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// What is allowed and probably not meant.
    pub warnings: Diagnostics,
    /// The open doors, to be shown each time.
    pub public_routes: Vec<PublicRoute>,
    effective: Gateway,
}

/// A route on which no token is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicRoute {
    /// Host and path, as configured.
    pub name: String,
    /// The route that would ask for a token if this one were not there.
    pub overrides: Option<String>,
}

impl Loaded {
    /// The whole configuration as YAML, every default written out, secrets redacted.
    pub fn long_form(&self) -> String {
        long_form::write(&self.effective)
    }
}

/// Reads `path`, with the environment and the files it refers to.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    let text = read_file(path).map_err(|what| {
        let file = Source { name: name.clone(), text: String::new() };
        Diagnostics::unreadable(&[file], what, None)
    })?;
    from_str(&name, &text, &|name| std::env::var(name).ok())
}

/// Reads `text`, called `name`; files it refers to are looked for beside `name`, variables in `env`.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn from_str(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Diagnostics> {
    let mut files = Vec::new();
    let mut reports = Reports::default();
    let mut tree = parse(&mut files, name, text)?;
    judge_syntax(&mut tree, &mut reports);
    interpolate::replace_all(&mut tree, env, &mut reports);
    let directory = Path::new(name).parent().unwrap_or(Path::new(""));
    include(&mut tree, &mut files, directory, env, &mut reports)?;
    sugar::resolve(&mut tree, &mut reports);

    let Some(mut raw) = de::read::<Gateway>(&mut tree, &mut reports) else {
        return Err(Diagnostics::new(files, reports));
    };
    fill::fill(&mut raw);
    let around = Surroundings { directory, env };
    let mut cx = Context { raw: &raw, tree: &tree, reports: &mut reports, around };
    let (config, public_routes) = lower(&mut cx);
    let failed = reports.has_errors();
    let diagnostics = Diagnostics::new(files, reports);
    if failed {
        return Err(diagnostics);
    }
    Ok(Loaded { config, warnings: diagnostics, public_routes, effective: raw })
}

fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn parse(files: &mut Vec<Source>, name: &str, text: &str) -> Result<Node, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let number = u16::try_from(files.len()).unwrap_or(u16::MAX);
    files.push(Source { name: name.to_owned(), text: text.to_owned() });
    let unreadable = |what: String, place| Diagnostics::unreadable(files, what, place);
    if text.len() > FILE_BYTES_MAX {
        return Err(unreadable("larger than 1 MiB".to_owned(), None));
    }
    let node = tree::parse(text, number).map_err(|error| {
        let place = place::from_error(&error);
        // The place is shown by the marker.
        let what = error.to_string();
        let at = place.map_or(String::new(), |Place { line, column }| {
            format!(" at line {line} column {column}")
        });
        unreadable(format!("cannot be read as YAML: {}", what.replacen(&at, "", 1)), place)
    })?;
    match node.kind {
        Kind::Map(_) => Ok(node),
        Kind::Null => Err(unreadable("the file is empty".to_owned(), None)),
        _ => Err(unreadable("expected keys with values, `key: value`".to_owned(), None)),
    }
}

/// Reports and refuses duplicate keys, and keys without a value.
fn judge_syntax(root: &mut Node, reports: &mut Reports) {
    fn walk(node: &mut Node, written: &Written, reports: &mut Reports) {
        match &mut node.kind {
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let mut written = written.clone();
                    written.item(index);
                    value(item, &written, reports, None);
                }
            }
            Kind::Map(entries) => {
                let mut seen = std::collections::BTreeSet::new();
                for entry in entries {
                    let mut written = written.clone();
                    written.key(&entry.key);
                    if seen.insert(entry.key.clone()) {
                        value(&mut entry.value, &written, reports, Some(entry.key_id));
                        continue;
                    }
                    reports.hide(&entry.value);
                    let problem = Problem::error("this key stands here twice");
                    let problem = problem.expected("expected once");
                    reports.push(Some(entry.key_id), written.to_string(), problem);
                    entry.value.kind = Kind::Refused;
                }
            }
            _ => {}
        }
    }
    fn value(node: &mut Node, at: &Written, reports: &mut Reports, key: Option<tree::NodeId>) {
        if node.kind == Kind::Null {
            let problem = Problem::error("no value").expected("expected a value, or no key");
            reports.push(key.or(Some(node.id)), at.to_string(), problem);
            node.kind = Kind::Refused;
        }
        walk(node, at, reports);
    }
    walk(root, &Written::default(), reports);
    // The second of two equal keys was only there to be reported.
    drop_duplicates(root);
}

fn drop_duplicates(node: &mut Node) {
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(drop_duplicates),
        Kind::Map(entries) => {
            let mut seen = std::collections::BTreeSet::new();
            entries.retain(|entry| seen.insert(entry.key.clone()));
            entries.iter_mut().for_each(|entry| drop_duplicates(&mut entry.value));
        }
        _ => {}
    }
}

/// Puts the routes of the files in `include` behind those of the file itself.
fn include(
    root: &mut Node,
    files: &mut Vec<Source>,
    directory: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    reports: &mut Reports,
) -> Result<(), Diagnostics> {
    let Some(entry) = root.entry("include") else { return Ok(()) };
    let named: Vec<Node> = match &entry.value.kind {
        Kind::List(items) => items.clone(),
        Kind::Text(_) => vec![entry.value.clone()],
        // Reported where the types are judged.
        _ => Vec::new(),
    };
    if named.len() > INCLUDES_MAX {
        let what = format!("more than {INCLUDES_MAX} files");
        reports.push(Some(entry.key_id), "include", Problem::error(what));
    }
    for node in named.iter().take(INCLUDES_MAX) {
        let Kind::Text(name) = &node.kind else { continue };
        let path = directory.join(name);
        let text = match read_file(&path) {
            Ok(text) => text,
            Err(what) => {
                let problem = Problem::error(format!("{}: {what}", path.display()));
                reports.push(Some(node.id), "include", problem);
                continue;
            }
        };
        let mut tree = parse(files, &path.display().to_string(), &text)?;
        judge_syntax(&mut tree, reports);
        interpolate::replace_all(&mut tree, env, reports);
        append_routes(root, tree, reports);
    }
    Ok(())
}

/// Moves the routes of an included file over; it may hold nothing else.
fn append_routes(root: &mut Node, included: Node, reports: &mut Reports) {
    let Kind::Map(entries) = included.kind else { return };
    for mut entry in entries {
        if entry.key != "routes" {
            reports.hide(&entry.value);
            let problem = Problem::error("does not belong in an included file");
            reports.push(Some(entry.key_id), entry.key, problem.expected("only `routes`"));
            continue;
        }
        if let Kind::List(items) = &mut entry.value.kind {
            for (index, item) in items.iter_mut().enumerate() {
                item.written = Some(format!("routes[{index}]").into());
            }
        }
        let Some(own) = root.entries_mut() else { return };
        let routes = own.iter_mut().find(|own| own.key == "routes");
        match (routes.map(|own| &mut own.value.kind), entry.value.kind) {
            (Some(Kind::List(own)), Kind::List(more)) => own.extend(more),
            (None, kind) => {
                entry.value.kind = kind;
                own.push(entry);
            }
            (Some(_), Kind::Refused) | (Some(Kind::Refused), _) => {}
            (Some(_), _) => reports.push(
                Some(entry.key_id),
                "routes",
                Problem::error("cannot be joined with the other routes").expected("a list"),
            ),
        }
    }
}
