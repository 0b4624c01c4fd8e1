//! Keys of `gateway.yaml` that have a meaning but no code yet.
//!
//! They are refused by name, so that nobody thinks they work and nobody hunts for a typo. Whoever
//! builds one removes its line here and adds it to [`super::raw`].

/// Key paths in the long form; `*` is any name.
const KEYS: &[&[&str]] = &[
    &["listeners", "*", "tls"],
    &["listeners", "*", "http2"],
    &["listeners", "*", "redirect_to_https"],
    &["admin", "token"],
    &["admin", "status_page"],
    &["limits", "header_timeout"],
    &["limits", "body_idle_timeout"],
    &["limits", "keepalive_timeout"],
    &["limits", "max_connections"],
    &["limits", "max_connections_per_address"],
    &["shutdown", "delay"],
    &["upstreams", "*", "balance"],
    &["upstreams", "*", "health"],
    &["upstreams", "*", "retries"],
    &["csrf", "enabled"],
    &["on_denied", "pages_dir"],
];

/// Is this the key path of something to come?
pub fn is_key(path: &[&str]) -> bool {
    KEYS.iter().any(|pattern| matches(pattern, path))
}

fn matches(pattern: &[&str], path: &[&str]) -> bool {
    pattern.len() == path.len()
        && pattern.iter().zip(path).all(|(pattern, key)| *pattern == "*" || pattern == key)
}
