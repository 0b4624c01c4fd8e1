//! What every check needs: the file as written, where things stand in it, and where reports go.

use std::path::Path;

use crate::config::raw::Gateway;
use crate::config::raw::secret::SecretSource;
use crate::config::reports::{KeyPath, Problem, Reports};
use crate::config::secrets;
use crate::config::tree::Node;
use crate::policy::secret::Secret;

/// Longest name of a listener, upstream, issuer, policy or route: names become metric labels.
const NAME_BYTES_MAX: usize = 64;

/// What a configuration takes from outside its files.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where relative paths start: the directory of `gateway.yaml`.
    pub directory: &'a Path,
    /// Looks up an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

pub struct Context<'a> {
    pub raw: &'a Gateway,
    pub tree: &'a Node,
    pub reports: &'a mut Reports,
    pub around: Surroundings<'a>,
}

impl Context<'_> {
    pub fn report(&mut self, at: &KeyPath, problem: Problem) {
        self.reports.at(self.tree, at, problem);
    }

    /// Reports an error with the form that was expected.
    pub fn error(&mut self, at: &KeyPath, what: impl Into<String>, expected: &str) {
        let problem = Problem::error(what);
        self.report(at, if expected.is_empty() { problem } else { problem.expected(expected) });
    }

    /// The value there may hold a secret though its key is for none: no shown line contains it.
    pub fn hide(&mut self, at: &KeyPath) {
        self.reports.hide_at(self.tree, at);
    }

    /// Reports what `check` found wrong.
    pub fn ok<T>(&mut self, at: &KeyPath, check: Result<T, Problem>) -> Option<T> {
        check.map_err(|problem| self.report(at, problem)).ok()
    }

    /// A secret, read from where it is kept.
    pub fn secret(&mut self, at: &KeyPath, source: &SecretSource) -> Option<Secret> {
        let read = secrets::read(source, self.around.directory, self.around.env);
        self.ok(at, read)
    }

    /// A file that must be there.
    pub fn file(&mut self, at: &KeyPath, path: &str) -> std::path::PathBuf {
        let path = self.around.directory.join(path);
        if !path.is_file() {
            self.error(at, format!("there is no file {}", path.display()), "");
        }
        path
    }

    /// Names become labels in logs and metrics, and part of a cookie's value.
    pub fn name(&mut self, at: &KeyPath, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let what = "this name cannot be a label in logs and metrics";
            let problem = Problem::error(what).about_key();
            self.report(at, problem.expected("expected 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
    }

    /// A map or list that is longer than the gateway is built for.
    pub fn at_most(&mut self, at: &KeyPath, count: usize, max: usize) {
        if count > max {
            self.error(at, format!("{count} are too many"), &format!("at most {max}"));
        }
    }
}
