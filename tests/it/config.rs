//! `gateway.yaml` as an operator meets it: what is said about bad files, what good ones come to.
//!
//! Each `tests/data/config/NAME.yaml` stands beside `NAME.txt`, all that is said about it. With
//! `EVERGATE_BLESS=1` what is said now is written there, to be read in the diff.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use evergate::config::{self, Loaded};
use evergate::refresh::OnFailure;
use serde_json::Value;

const CASES: &str = "tests/data/config";

/// The environment of every test: nothing is read from the real one.
fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("a secret of more than thirty-two bytes".to_owned()),
        "AUDIENCE" => Some("app".to_owned()),
        _ => None,
    }
}

/// All that `check` says about a text, and whether it is accepted.
fn verdict(name: &str, text: &str) -> String {
    match config::from_str(name, text, &env) {
        Err(diagnostics) => diagnostics.to_string(),
        Ok(loaded) => {
            let mut said = loaded.warnings.to_string();
            for public in &loaded.public_routes {
                said.push_str(&format!("public: {} over {:?}\n", public.name, public.overrides));
            }
            said + "accepted\n"
        }
    }
}

fn load(text: &str) -> Loaded {
    config::from_str("gateway.yaml", text, &env).unwrap_or_else(|diagnostics| {
        panic!("{diagnostics}");
    })
}

/// Compares `actual` with the file, or writes it there.
fn expect_file(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("EVERGATE_BLESS").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!("{} says\n{expected}\nbut now it is\n{actual}", path.display()))
}

fn cases() -> Vec<PathBuf> {
    let files = fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "yaml")).collect();
    cases.sort();
    cases
}

#[test]
fn every_file_gets_the_diagnostics_beside_it() {
    let wrong: Vec<String> = cases()
        .iter()
        .filter_map(|path| {
            let said = verdict(&path.display().to_string(), &fs::read_to_string(path).unwrap());
            expect_file(&path.with_extension("txt"), &said).err()
        })
        .collect();
    assert!(wrong.is_empty(), "{} files differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn only_files_called_ok_are_accepted() {
    for path in cases() {
        let said = verdict(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
        let good = path.file_name().unwrap().to_string_lossy().starts_with("ok_");
        assert_eq!(said.ends_with("accepted\n"), good, "{}", path.display());
        assert!(!said.contains("hunter2") && !said.contains("1234567"), "{}", path.display());
    }
}

#[test]
fn long_form_is_a_file_that_means_the_same() {
    for path in cases().iter().filter(|path| path.display().to_string().contains("/ok_")) {
        let text = fs::read_to_string(path).unwrap();
        let long = load(&text).long_form();
        assert_eq!(load(&long).long_form(), long, "{}", path.display());
    }
}

#[test]
fn long_form_shows_no_secret_that_stood_in_the_file() {
    let text = "listen: 127.0.0.1:8080\nupstream: http://127.0.0.1:3000\nissuer:\n  url: a\n  \
                audience: a\n  keys: { secret: hunter2 }\nrefresh:\n  url: https://a\n  client_id: \
                g\n  client_secret: { env: SECRET }\nroutes: [{ path: /* }]\n";
    let long = load(text).long_form();
    assert!(!long.contains("hunter2") && !long.contains("thirty-two"), "{long}");
    assert!(long.contains("secret: '[redacted]'"), "{long}");
    assert!(long.contains("client_secret:\n        env: SECRET"), "{long}");
}

#[test]
fn debug_output_shows_no_secret() {
    let text = fs::read_to_string("tests/data/config/ok_short_secret.yaml").unwrap();
    let debug = format!("{:?}", load(&text.replace("secret: short", "secret: hunter2")));
    assert!(!debug.contains("hunter2"), "{debug}");
}

#[test]
fn a_strict_backend_makes_the_store_deny_unless_the_file_says_otherwise() {
    let text = fs::read_to_string("tests/data/config/ok_store_of_redis.yaml").unwrap();
    let chosen = |rotation: &str, store: &str| {
        let text = text.replace("/token\"", &format!("/token\", rotation: {rotation}"));
        let text = text.replace("kind: redis", &format!("kind: redis{store}"));
        load(&text).config.store.map(|store| store.on_failure)
    };
    assert_eq!(chosen("strict", ""), Some(OnFailure::Deny));
    assert_eq!(chosen("strict", ", on_failure: local"), Some(OnFailure::Local));
    assert_eq!(chosen("grace", ""), Some(OnFailure::Local));
    assert_eq!(chosen("grace", ", on_failure: deny"), Some(OnFailure::Deny));
}

#[test]
fn a_file_full_of_errors_is_given_up_in_the_open() {
    let text: String = (0..150).map(|n| format!("key{n}: 1\n")).collect();
    let diagnostics = config::from_str("gateway.yaml", &text, &env).unwrap_err();
    assert_eq!(diagnostics.errors(), 100);
    assert!(diagnostics.to_string().ends_with("there may be more\n100 errors\n"));
}

#[test]
fn committed_schema_is_current() {
    expect_file(Path::new("gateway.schema.json"), &config::schema()).unwrap();
}

#[test]
fn reference_file_is_accepted() {
    let text = fs::read_to_string("gateway.yaml").unwrap();
    load(&text);
}

/// In the reference `#key: value` is a key with its default, `# words` a comment, and
/// `#eg key: value` an example.
fn reference_with_all_keys() -> String {
    let text = fs::read_to_string("gateway.yaml").unwrap();
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix('#') {
            Some("") => String::new(),
            Some(rest) if rest.starts_with("eg ") || rest.starts_with(' ') => String::new(),
            Some(rest) => format!("{}{rest}\n", &line[..indent]),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn reference_file_shows_the_defaults() {
    let text = fs::read_to_string("gateway.yaml").unwrap();
    let all = reference_with_all_keys();
    assert_eq!(load(&text).long_form(), load(&all).long_form());
}

#[test]
fn every_key_of_the_schema_stands_in_the_reference_file() {
    let text = fs::read_to_string("gateway.yaml").unwrap();
    let mut shown = BTreeSet::new();
    let tree: Value = serde_yaml::from_str(&reference_with_all_keys()).unwrap();
    key_paths(&tree, "", &mut shown);
    let schema: Value = serde_json::from_str(&config::schema()).unwrap();
    let mut known = BTreeSet::new();
    schema_paths(&schema, &schema, "", &mut known);
    let short = ["listen", "upstream", "issuer", "refresh"];
    let missing: Vec<&String> = known
        .iter()
        .filter(|path| !short.iter().any(|short| path.split('.').next() == Some(short)))
        // A name that the operator chooses is no key.
        .filter(|path| !shown.contains(*path) && !path.ends_with('*'))
        // What has no default stands there as an example.
        .filter(|path| {
            let key = path.rsplit('.').next().unwrap();
            let example = |line: &str| line.contains("#eg ") && line.contains(&format!("{key}:"));
            !text.lines().any(example)
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let words = short.map(|key| format!("`{key}`"));
    assert!(words.iter().all(|key| text.contains(key)), "short forms are explained");
}

/// Key paths of a file; names that the operator chooses become `*`.
fn key_paths(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    const NAMED: &[&str] = &[
        "listeners",
        "upstreams",
        "issuers",
        "policies",
        "identity_headers",
        "routes.identity_headers",
        "routes.require.claims",
        "policies.*.require.claims",
        "issuers.*.refresh.dead_when.json",
    ];
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let key = if NAMED.contains(&path) { "*" } else { key };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                key_paths(value, &path, into);
                into.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| key_paths(item, path, into)),
        _ => {}
    }
}

/// Key paths that a schema knows.
fn schema_paths(root: &Value, schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    if let Some(Value::String(reference)) = schema.get("$ref") {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        schema_paths(root, target, path, into);
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        let choices = schema.get(choice).and_then(Value::as_array);
        choices.into_iter().flatten().for_each(|one| schema_paths(root, one, path, into));
    }
    if let Some(items) = schema.get("items") {
        schema_paths(root, items, path, into);
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let properties = schema.get("properties").and_then(Value::as_object);
    let named = schema.get("additionalProperties").filter(|value| value.is_object());
    let all = properties.into_iter().flatten().map(|(key, value)| (key.as_str(), value));
    for (key, value) in all.chain(named.map(|value| ("*", value))) {
        into.insert(below(key));
        schema_paths(root, value, &below(key), into);
    }
}

/// Runs the program; its exit code, stdout and stderr.
fn evergate(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_evergate")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_accepts_with_0_and_lists_open_doors() {
    let file = "tests/data/config/ok_smallest.yaml";
    let said = "public routes, on which no token is looked at:\n  /auth/*  (an exception to /*)\n  \
                /static/*  (an exception to /*)\ntests/data/config/ok_smallest.yaml: no errors, 4 \
                routes\n";
    assert_eq!(evergate(&["check", "-c", file]), (Some(0), said.to_owned(), String::new()));
}

#[test]
fn check_refuses_with_78_and_plain_text_where_nobody_watches() {
    let file = "tests/data/config/unknown_key.yaml";
    let said = fs::read_to_string("tests/data/config/unknown_key.txt").unwrap();
    assert_eq!(evergate(&["check", "-c", file]), (Some(78), String::new(), said));
    assert_eq!(evergate(&["check", "-c", "no/such/file"]).0, Some(78));
}

#[test]
fn wrong_arguments_are_2() {
    for args in [&[][..], &["chekc"], &["check", "--colour"], &["routes", "test", "GET"]] {
        assert_eq!(evergate(args).0, Some(2), "{args:?}");
    }
    assert_eq!(evergate(&["--version"]).0, Some(0));
}

#[test]
fn schema_is_printed_as_committed() {
    let committed = fs::read_to_string("gateway.schema.json").unwrap();
    assert_eq!(evergate(&["schema"]), (Some(0), committed, String::new()));
}

#[test]
fn routes_are_printed_in_match_order() {
    let file = "tests/data/config/ok_weaker_routes.yaml";
    let (code, table, _) = evergate(&["routes", "-c", file]);
    let columns: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let expected = [
        ["HOST", "PATH"],
        ["app.example", "/inside/x"],
        ["any", "/admin/audit"],
        ["any", "/admin/open"],
        ["any", "/admin/own"],
        ["any", "/admin/reports/*"],
        ["any", "/inside/*"],
        ["any", "/admin/*"],
        ["any", "/maybe/*"],
        ["any", "/*"],
    ];
    assert_eq!((code, columns), (Some(0), expected.map(|row| row.to_vec()).to_vec()));
}
