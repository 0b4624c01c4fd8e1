//! Secrets, read from where they are kept.
//!
//! One line end at a file's end is dropped, because editors add one; nothing else is trimmed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::raw::secret::{Elsewhere, SecretSource};
use super::reports::Problem;
use crate::policy::secret::Secret;

/// Size of one secret.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Where systemd puts credentials (`systemd.exec(5)`).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Reads a secret; relative paths start at `directory`.
///
/// # Errors
/// What to tell the operator; never the secret.
pub fn read(
    source: &SecretSource,
    directory: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Secret, Problem> {
    let secret = match source {
        SecretSource::Literal(secret) => secret.clone(),
        SecretSource::Elsewhere(Elsewhere::File(path)) => from_file(&directory.join(path))?,
        SecretSource::Elsewhere(Elsewhere::Env(name)) => match env(name) {
            Some(value) => Secret::new(value),
            None => return Err(Problem::error(format!("the variable {name} is not set"))),
        },
        SecretSource::Elsewhere(Elsewhere::Credential(name)) => {
            if name.is_empty() || name.contains('/') || name == "." || name == ".." {
                return Err(Problem::error("not the name of a credential"));
            }
            let Some(credentials) = env(CREDENTIALS_DIRECTORY) else {
                return Err(Problem::error("$CREDENTIALS_DIRECTORY is not set")
                    .expected("set by systemd for `LoadCredential=`"));
            };
            from_file(&Path::new(&credentials).join(name))?
        }
    };
    if secret.expose().is_empty() {
        return Err(Problem::error("the secret is empty"));
    }
    Ok(secret)
}

fn from_file(path: &Path) -> Result<Secret, Problem> {
    let shown = path.display();
    let failed = |error: std::io::Error| Problem::error(format!("cannot read {shown}: {error}"));
    let mut text = zeroize::Zeroizing::new(String::new());
    let file = File::open(path).map_err(failed)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(Problem::error(format!("{shown} is over {SECRET_BYTES_MAX} bytes")));
    }
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(secret.strip_suffix('\r').unwrap_or(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("from the environment".to_owned()),
            "EMPTY" => Some(String::new()),
            CREDENTIALS_DIRECTORY => Some("tests/data/config/secret".to_owned()),
            _ => None,
        }
    }

    fn read(elsewhere: Elsewhere) -> Result<String, String> {
        let directory = Path::new("tests/data/config");
        let secret = super::read(&SecretSource::Elsewhere(elsewhere), directory, &env);
        secret.map(|secret| secret.expose().to_owned()).map_err(|problem| problem.what)
    }

    #[test]
    fn a_secret_comes_from_where_it_is_kept() {
        let file = Elsewhere::File("secret/with_line_end".to_owned());
        assert_eq!(read(file), Ok("from a file".to_owned()));
        let credential = Elsewhere::Credential("with_line_end".to_owned());
        assert_eq!(read(credential), Ok("from a file".to_owned()));
        let variable = Elsewhere::Env("TOKEN".to_owned());
        assert_eq!(read(variable), Ok("from the environment".to_owned()));
    }

    #[test]
    fn an_empty_secret_is_none() {
        let empty = Err("the secret is empty".to_owned());
        assert_eq!(read(Elsewhere::Env("EMPTY".to_owned())), empty);
        assert_eq!(read(Elsewhere::File("secret/empty".to_owned())), empty);
    }

    #[test]
    fn a_credential_is_a_name_and_no_path() {
        for name in ["", ".", "..", "../ok_smallest.yaml", "a/b"] {
            let refused = Err("not the name of a credential".to_owned());
            assert_eq!(read(Elsewhere::Credential(name.to_owned())), refused, "{name}");
        }
    }
}
