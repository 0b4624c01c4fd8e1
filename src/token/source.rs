//! Loading an issuer's keys from where the configuration says they are.

use std::io::Read;
use std::path::Path;

use super::discovery::{Discovered, discover};
use super::fetch::{FetchError, Fetcher, KEY_SET_BYTES_MAX};
use super::jwk::{self, KeySetDocument, NoKeySet};
use super::key::{Key, is_shared, secret_bytes_min};
use super::pem::{self, BadPem};
use super::{IssuerSettings, KeySource};

/// Why an issuer's keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}: {1}")]
    KeySet(String, NoKeySet),
    #[error("{0}: not a discovery document: {1}")]
    Discovery(String, serde_json::Error),
    #[error("{document}: its issuer is {found:?}, configured is {expected:?}")]
    OtherIssuer { document: String, found: String, expected: String },
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    #[error("{0}: longer than {KEY_SET_BYTES_MAX} bytes")]
    FileTooLong(String),
    #[error("pem: {0}")]
    Pem(#[from] BadPem),
    #[error("secret: {found} bytes, its algorithms need at least {needed} (RFC 7518 §3.2)")]
    ShortSecret { found: usize, needed: usize },
    #[error("algorithms: none that a shared secret can have (HS256, HS384, HS512)")]
    SecretWithoutHmac,
    #[error("the reader of the key file was cancelled")]
    Cancelled,
}

/// What a fetch brings.
pub struct Fetched {
    pub keys: KeySetDocument,
    pub discovered: Discovered,
}

/// Loads what comes over the network or from a key set file.
///
/// # Errors
/// Any of them means: keep what is there, and try again later.
pub async fn fetch(
    settings: &IssuerSettings,
    fetcher: Option<&Fetcher>,
) -> Result<Fetched, LoadError> {
    let (keys, discovered) = match (&settings.keys, fetcher) {
        (KeySource::Discovery, Some(fetcher)) => {
            let (url, discovered) = discover(&settings.url, fetcher).await?;
            (read_set(&url, &fetcher.get(&url).await?, settings)?, discovered)
        }
        (KeySource::Url(url), Some(fetcher)) => {
            (read_set(url, &fetcher.get(url).await?, settings)?, Discovered::default())
        }
        _ => {
            let settings = settings.clone();
            let loaded = tokio::task::spawn_blocking(move || load_local(&settings)).await;
            (loaded.map_err(|_| LoadError::Cancelled)??, Discovered::default())
        }
    };
    Ok(Fetched { keys, discovered })
}

/// Loads what is on this machine; nothing for an issuer whose keys come over the network.
///
/// # Errors
/// At start each of them is the operator's to put right.
pub fn load_local(settings: &IssuerSettings) -> Result<KeySetDocument, LoadError> {
    let without_doubt = |keys: Vec<Key>| KeySetDocument { keys, left_out: Vec::new() };
    match &settings.keys {
        KeySource::Discovery | KeySource::Url(_) => Ok(without_doubt(Vec::new())),
        KeySource::File(path) => read_set(&path.display().to_string(), &read_file(path)?, settings),
        KeySource::Pem(text) => Ok(without_doubt(pem::read_keys(text, &settings.algorithms)?)),
        KeySource::Secret(secret) => {
            let found = secret.expose().len();
            let hmacs = settings.algorithms.iter().copied().filter(|alg| is_shared(*alg));
            let needed = hmacs.map(secret_bytes_min).max().unwrap_or(0);
            if found < needed {
                return Err(LoadError::ShortSecret { found, needed });
            }
            let key = Key::shared(secret, &settings.algorithms);
            Ok(without_doubt(vec![key.ok_or(LoadError::SecretWithoutHmac)?]))
        }
    }
}

fn read_set(
    whence: &str,
    bytes: &[u8],
    settings: &IssuerSettings,
) -> Result<KeySetDocument, LoadError> {
    jwk::read_set(bytes, &settings.algorithms)
        .map_err(|error| LoadError::KeySet(without_query(whence), error))
}

/// A key set's URL may carry a secret in its query.
fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let shown = || path.display().to_string();
    let failed = |error| LoadError::File(shown(), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(KEY_SET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > KEY_SET_BYTES_MAX {
        return Err(LoadError::FileTooLong(shown()));
    }
    Ok(bytes)
}
