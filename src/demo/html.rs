//! What every page of the demo needs: escaping, a strict content security policy, and the answer
//! to "did this form come from our own page?".

use aws_lc_rs::digest;
use axum::http::{HeaderMap, HeaderName, header};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Text made safe for HTML content and for quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// The `Content-Security-Policy` under which `page` works and nothing else does: only its own inline
/// `<style>` and `<script>`, known by their hashes (CSP Level 3 §2.3.1), and its own origin.
pub fn content_security_policy(page: &str) -> String {
    let mut policy = String::from("default-src 'none'; connect-src 'self'; img-src data:");
    for (directive, element) in [("script-src", "script"), ("style-src", "style")] {
        if let Some(text) = element_text(page, element) {
            let hash = STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
            policy.push_str(&format!("; {directive} 'sha256-{hash}'"));
        }
    }
    policy.push_str("; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    policy
}

/// The text of the one `<element>` without attributes, byte for byte as the browser hashes it.
fn element_text<'p>(page: &'p str, element: &str) -> Option<&'p str> {
    let (_, rest) = page.split_once(&format!("<{element}>"))?;
    let (text, _) = rest.split_once(&format!("</{element}>"))?;
    Some(text)
}

/// Whether a request that changes something may come from a browser page of this very origin.
///
/// Browsers say where a request comes from (`Sec-Fetch-Site`, else `Origin`); a program that sends
/// neither cannot be misused by a foreign page. `Host` must be a loopback name, so that a foreign
/// name that resolves to this machine (DNS rebinding) is no way in.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, &header::HOST) else { return false };
    if !is_loopback_name(host) {
        return false;
    }
    if let Some(site) = text(headers, &HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin" || site == "none";
    }
    match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => origin.as_bytes() == format!("http://{host}").as_bytes(),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn markup_in_a_name_stays_text() {
        let escaped = escape("<script>alert('x' & \"y\")</script>");
        assert_eq!(escaped, "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;");
    }

    #[test]
    fn the_policy_names_the_hash_of_exactly_what_stands_between_the_tags() {
        let policy = content_security_policy("<style></style><script>abc</script>");

        let expected = "default-src 'none'; connect-src 'self'; img-src data:\
            ; script-src 'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='\
            ; style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='\
            ; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        assert_eq!(policy, expected);
    }

    #[test]
    fn our_own_page_and_programs_may_change_things() {
        for own in [
            headers(&[("host", "127.0.0.1:8080"), ("sec-fetch-site", "same-origin")]),
            headers(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]),
            headers(&[("host", "127.0.0.1:8080")]),
            headers(&[("host", "[::1]")]),
        ] {
            assert!(is_same_origin(&own), "{own:?}");
        }
    }

    #[test]
    fn a_foreign_page_may_not() {
        for foreign in [
            headers(&[("host", "127.0.0.1:8080"), ("sec-fetch-site", "cross-site")]),
            headers(&[("host", "127.0.0.1:8080"), ("sec-fetch-site", "same-site")]),
            headers(&[("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:3000")]),
            headers(&[("host", "127.0.0.1:8080"), ("origin", "null")]),
            headers(&[("host", "rebound.example:8080"), ("sec-fetch-site", "same-origin")]),
            headers(&[]),
        ] {
            assert!(!is_same_origin(&foreign), "{foreign:?}");
        }
    }
}
