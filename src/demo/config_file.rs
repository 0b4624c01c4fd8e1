//! `gateway-demo.yaml`: the configuration that the demo's gateway runs from, written next to you.
//!
//! It is a file like any other, commented for reading, ready for `evergate run`. A file that somebody
//! has edited is never overwritten: it is renamed first, and the demo says so.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::DemoError;
use super::tokens::AUDIENCE;

/// The file's name, in the current directory.
pub const FILE_NAME: &str = "gateway-demo.yaml";

/// Renamed files kept; after that somebody has to tidy up.
const KEPT_MAX: u32 = 99;

/// Where everything listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    pub app: SocketAddr,
    pub auth: SocketAddr,
    pub front: SocketAddr,
}

/// What became of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    New,
    /// It was there already, byte for byte.
    Kept,
    /// An edited one was there and is now at this path.
    Replaced(PathBuf),
}

/// The text of the file.
pub fn text(addresses: &Addresses) -> String {
    let Addresses { gateway, admin, app, auth, front } = addresses;
    format!(
        r#"# Written by `evergate demo`, and ready for `evergate run -c {FILE_NAME}`.
# Edit it as you like: the demo renames an edited file before it writes a new one.

listen: {gateway}                # loopback only, plain http
admin: {{ address: {admin} }}    # /livez /readyz /metrics

upstreams:
  app: {{ servers: ["http://{app}"] }}      # knows nothing of tokens
  auth: {{ servers: ["http://{auth}"] }}     # a home-made auth backend with its own login page
  front: {{ servers: ["http://{front}"] }}    # the page that shows what happens

issuer:
  url: http://{auth}             # the expected `iss`; keys by discovery
  audience: {AUDIENCE}
  jwks: {{ min_interval: 1s }}               # so that the key can be rotated again and again
refresh:
  url: http://{auth}/token       # access tokens live a few seconds, refresh tokens work once
cookies: {{ secure: false }}                 # allowed only because every listener is loopback

on_denied: {{ browser: {{ redirect: "/auth/login?return_to={{url}}" }} }}

routes:
  # The app. Everything below asks for a login, which is the default.
  - {{ name: app, path: /app/*, upstream: app, rewrite: {{ strip_prefix: /app }} }}
  - name: app-admin
    path: /app/admin/*
    upstream: app
    rewrite: {{ strip_prefix: /app }}
    require: {{ roles: [admin] }}

  # The auth backend's own pages. The tokens that its login sets become the gateway's cookies.
  - {{ name: auth, path: /auth/*, auth: public, upstream: auth, adopt_tokens: true }}

  # The demo's front page. What stops, rotates and tampers asks for a login; starting the auth
  # backend again must not, because without it nobody can prove a login.
  - {{ name: front, path: /, auth: public, upstream: front }}
  - {{ name: demo, path: /demo/*, auth: public, upstream: front }}
  - {{ name: demo-control, path: /demo/control/*, upstream: front }}
  - name: demo-me
    path: /demo/me
    auth: optional
    upstream: front
    identity_headers:
      X-Forwarded-User: "{{claims.user}}"
      X-Demo-Roles: "{{claims.roles|join:,}}"
      X-Demo-Expires: "{{claims.exp}}"
"#
    )
}

/// Writes `text` to `directory/gateway-demo.yaml` unless it is there already.
///
/// # Errors
/// The directory cannot be written, or too many renamed files lie about.
pub fn write(directory: &Path, text: &str) -> Result<(PathBuf, Written), DemoError> {
    let path = directory.join(FILE_NAME);
    let failed = |source| DemoError::Write { path: path.clone(), source };
    let written = match fs::read(&path) {
        Ok(found) if found == text.as_bytes() => return Ok((path, Written::Kept)),
        Ok(_) => {
            let kept = free_name(directory).ok_or(DemoError::TooManyKept)?;
            fs::rename(&path, &kept).map_err(failed)?;
            Written::Replaced(kept)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Written::New,
        Err(error) => return Err(failed(error)),
    };
    fs::write(&path, text).map_err(failed)?;
    Ok((path, written))
}

fn free_name(directory: &Path) -> Option<PathBuf> {
    (1..=KEPT_MAX)
        .map(|n| directory.join(format!("gateway-demo.kept-{n}.yaml")))
        .find(|path| !path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("evergate-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_file_is_yaml_and_its_comments_stand_where_they_should() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses {
            gateway: address(8080),
            app: address(8081),
            auth: address(8082),
            front: address(8083),
            admin: address(8084),
        };
        let parsed: serde_json::Value = serde_yaml::from_str(&text(&addresses)).unwrap();

        assert_eq!(parsed["listen"], "127.0.0.1:8080");
        assert_eq!(parsed["refresh"]["url"], "http://127.0.0.1:8082/token");
        assert_eq!(parsed["routes"][6]["identity_headers"]["X-Demo-Expires"], "{claims.exp}");
        assert_eq!(parsed["on_denied"]["browser"]["redirect"], "/auth/login?return_to={url}");
    }

    #[test]
    fn an_identical_file_is_kept() {
        let directory = directory("identical");

        let first = write(&directory, "a: 1\n").unwrap();
        let second = write(&directory, "a: 1\n").unwrap();

        assert_eq!((first.1, second.1), (Written::New, Written::Kept));
        assert_eq!(names(&directory), ["gateway-demo.yaml"]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_edited_file_is_renamed_and_survives() {
        let directory = directory("edited");
        fs::write(directory.join(FILE_NAME), "mine: 1\n").unwrap();

        let (path, written) = write(&directory, "theirs: 1\n").unwrap();

        let kept = directory.join("gateway-demo.kept-1.yaml");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "mine: 1\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "theirs: 1\n");
        assert_eq!(written, Written::Replaced(kept));
        fs::remove_dir_all(directory).unwrap();
    }
}
