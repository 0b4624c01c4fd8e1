//! The house rules that a compiler does not check. Each test names the rule; a failure names the
//! file and line and says what to do. The reasons stand in CONTRIBUTING.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have before its tests.
const FILE_LINES_MAX: usize = 400;
/// The median of all files; the drawing says 150.
const FILE_LINES_MEDIAN_MAX: usize = 200;

/// Who may import whom. A room may always import itself; what is not listed is refused.
/// Only `cli` and `server` know `config`; `config` may name the settings types of the rooms.
const IMPORTS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["admin", "config", "demo", "policy", "proxy", "refresh", "server", "token", LEAVES]),
    ("demo", &["config", "policy", "server", LEAVES]),
    (
        "server",
        &[
            "admin", "config", "listen", "policy", "proxy", "refresh", "session", "store", "token",
            LEAVES,
        ],
    ),
    ("config", &["policy", "proxy", "refresh", "store", "token"]),
    ("listen", &[LEAVES]),
    ("admin", &["policy", "refresh", "session", "token", LEAVES]),
    ("proxy", &["listen", "policy", "refresh", "session", "token", LEAVES]),
    ("refresh", &["policy", "store", "token", LEAVES]),
    ("session", &["policy", "store", LEAVES]),
    ("token", &["policy", LEAVES]),
    ("store", &["policy", LEAVES]),
    ("metrics", &["policy"]),
    ("log", &["policy"]),
    ("clock", &["policy"]),
    ("policy", &[]),
];
const LEAVES: &str = "clock log metrics";

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for file in sources() {
        let room = room_of(&file);
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: room `{room}` is not in the table", file.display()));
            continue;
        };
        let allowed: Vec<&str> = allowed.iter().flat_map(|names| names.split(' ')).collect();
        for (number, line) in code(&file) {
            for target in named_rooms(&line) {
                if target != room && !allowed.contains(&target.as_str()) {
                    wrong.push(format!("{}:{number}: `{room}` uses `{target}`", file.display()));
                }
            }
        }
    }
    assert_none(
        &wrong,
        "imports run main -> cli -> server -> proxy -> token, refresh, session -> policy",
    );
}

#[test]
fn policy_is_pure() {
    let impure = [
        "async fn",
        "async move",
        ".await",
        "tokio",
        "pingora",
        "reqwest",
        "tracing",
        "prometheus",
        "std::fs",
        "std::env",
        "std::thread",
        "SystemTime",
        "Instant",
        "rand::",
        "println!",
    ];
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|file| room_of(file) == "policy") {
        for (number, line) in code(&file) {
            for word in impure.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{number}: `{word}`", file.display()));
            }
        }
    }
    assert_none(&wrong, "policy/ takes data and returns data; do the rest in proxy/drive.rs");
}

#[test]
fn only_clock_reads_the_clock() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|file| room_of(file) != "clock") {
        for (number, line) in code(&file) {
            // A stopwatch that stands still with a test's time reads no clock.
            let line = line.replace("tokio::time::Instant::now", "");
            if line.contains("SystemTime::now") || line.contains("Instant::now") {
                wrong.push(format!("{}:{number}", file.display()));
            }
        }
    }
    assert_none(&wrong, "time is an argument; ask crate::clock at the edge and hand it down");
}

#[test]
fn our_enums_are_matched_without_a_wildcard() {
    let enums = our_enums();
    let mut wrong = Vec::new();
    let strict = |file: &PathBuf| room_of(file) == "policy" || file.ends_with("proxy/respond.rs");
    for file in sources().into_iter().filter(strict) {
        let lines = code(&file);
        for (at, (number, line)) in lines.iter().enumerate() {
            if line.trim_start().starts_with("_ =>") && sibling_arm_names(&lines, at, &enums) {
                wrong.push(format!("{}:{number}", file.display()));
            }
        }
    }
    assert_none(&wrong, "name every variant, so that a new case cannot fall into an old one");
}

#[test]
fn files_fit_in_a_head() {
    let mut sizes: Vec<(usize, PathBuf)> =
        sources().into_iter().map(|file| (lines_before_tests(&file), file)).collect();
    sizes.sort();
    let median = sizes[sizes.len() / 2].0;
    println!("{} files, median {median} lines, longest {:?}", sizes.len(), sizes.last());
    let wrong: Vec<String> = sizes
        .iter()
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert_none(&wrong, "split it by idea (400 lines at most, tests not counted)");
    assert!(median <= FILE_LINES_MEDIAN_MAX, "the median file has {median} lines");
}

#[test]
fn every_key_is_in_gateway_yaml_and_in_the_docs() {
    let schema = serde_json::from_str(&read("gateway.schema.json")).expect("the schema is JSON");
    let mut keys = BTreeSet::new();
    collect_keys(&schema, &mut keys);
    assert!(keys.len() > 50, "only {} keys found in the schema", keys.len());
    let example = read("gateway.yaml");
    let docs: String = files_under("docs", "md").iter().map(read).collect();
    let mut wrong = Vec::new();
    for key in keys {
        if !mentions(&example, &key) {
            wrong.push(format!("`{key}` is not in gateway.yaml"));
        }
        if !mentions(&docs, &key) {
            wrong.push(format!("`{key}` is not in docs/"));
        }
    }
    assert_none(&wrong, "a key that nobody can read about does not exist");
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Put together here, so that this file does not find itself.
    let paths =
        [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/tmp/", "wt"]].map(|p| p.concat());
    let mut wrong = Vec::new();
    for file in repository_files(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            if paths.iter().any(|path| line.contains(path)) {
                wrong.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert_none(&wrong, "a path of one machine works on no other");
}

fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rust files of the product; whole files of tests left out.
fn sources() -> Vec<PathBuf> {
    let mut files = files_under("src", "rs");
    files.retain(|file| !file.ends_with("tests.rs") && !file.iter().any(|part| part == "tests"));
    assert!(files.len() > 15, "only {} source files found", files.len());
    files
}

fn files_under(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = repository_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// Every file below `folder` but what tools put there.
fn repository_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != "node_modules" && name != ".git" {
                files.extend(repository_files(&path));
            }
        } else if name != ".git" {
            files.push(path);
        }
    }
    files
}

/// The first part of the path below `src/`.
fn room_of(file: &Path) -> String {
    let below = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let below = below.expect("a file below src/");
    let first = below.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// Numbered lines of code: no comments, nothing from the tests on.
fn code(file: &Path) -> Vec<(usize, String)> {
    let text = read(file);
    let lines = text.lines().enumerate().take(lines_before_tests(file));
    lines
        .map(|(index, line)| (index + 1, line.to_string()))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

fn lines_before_tests(file: &Path) -> usize {
    let text = read(file);
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

/// What stands after `crate::` (or, in main.rs, after `evergate::`).
fn named_rooms(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for root in ["crate::", "evergate::"] {
        for (at, _) in line.match_indices(root) {
            // `$crate::` in a macro and `some_crate::` are other words.
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"') {
                continue;
            }
            let rest = &line[at + root.len()..];
            let inner = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            for path in inner.unwrap_or(rest).split(',') {
                let name: String = path
                    .trim_start()
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                if !name.is_empty() {
                    rooms.push(name);
                }
                if inner.is_none() {
                    break;
                }
            }
        }
    }
    rooms
}

fn our_enums() -> BTreeSet<String> {
    let mut names = BTreeSet::from(["Self".to_string(), "Reason".to_string()]);
    for file in sources() {
        for (_, line) in code(&file) {
            if let Some((_, rest)) = line.split_once("enum ") {
                names.insert(rest.chars().take_while(|c| c.is_alphanumeric()).collect());
            }
        }
    }
    names
}

/// Does another arm of the same `match` name a variant of ours? rustfmt puts all arms of a match
/// at one depth, and the `match` itself one step further out.
fn sibling_arm_names(lines: &[(usize, String)], at: usize, enums: &BTreeSet<String>) -> bool {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let own = depth(&lines[at].1);
    lines[..at]
        .iter()
        .rev()
        .take_while(|(_, line)| line.trim().is_empty() || depth(line) >= own)
        .filter(|(_, line)| depth(line) == own)
        .filter_map(|(_, line)| line.split("=>").next()?.split(" if ").next().map(str::to_string))
        .any(|pattern| enums.iter().any(|name| pattern.contains(&format!("{name}::"))))
}

/// Names of all properties in the schema, at any depth.
fn collect_keys(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                if name == "properties"
                    && let Some(properties) = value.as_object()
                {
                    keys.extend(properties.keys().cloned());
                }
                collect_keys(value, keys);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

/// Is `key` in `text` as a whole word?
fn mentions(text: &str, key: &str) -> bool {
    let inside_a_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(key).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(inside_a_word)
            && !text[at + key.len()..].chars().next().is_some_and(inside_a_word)
    })
}
