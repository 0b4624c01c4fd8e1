//! Writing the gateway's cookies, and telling them in an upstream's response.

use super::*;
use crate::policy::credentials::{CookieValue, Cookies};

fn settings() -> CookieSettings {
    let names = |name: &str, accept, path: &str| CookieNames {
        name: name.into(),
        accept,
        path: path.into(),
    };
    CookieSettings {
        access: names("__Host-access", vec!["old".into()], "/"),
        refresh: names("__Host-refresh", Vec::new(), "/"),
        refresh_path: names("__Secure-refresh", Vec::new(), "/_evergate/refresh"),
        session: names("__Host-session", Vec::new(), "/"),
        bounced: names("__Host-bounced", Vec::new(), "/"),
        stamp: names("__Host-stamp", Vec::new(), "/"),
        same_site: SameSite::Lax,
        secure: true,
    }
}

fn seen(line: &str) -> Seen {
    Cookies::read([line.as_bytes()], &settings()).access.seen
}

fn set(value: &str, max_age_s: Option<u64>, seen: Seen) -> Result<Vec<String>, CookieFault> {
    let settings = settings();
    settings.set(&settings.access, value, max_age_s, seen).map(shown)
}

fn shown(lines: Vec<HeaderValue>) -> Vec<String> {
    assert!(lines.iter().all(HeaderValue::is_sensitive));
    lines.iter().map(|line| line.to_str().unwrap().to_owned()).collect()
}

const REST: &str = "; Path=/; Secure; HttpOnly; SameSite=Lax";

fn gone(name: &str) -> String {
    format!("{name}={REST}; Max-Age=0")
}

#[test]
fn new_value_is_one_line_with_fixed_attributes() {
    let line = |age: &str| Ok(vec![format!("__Host-access=a.b-c_d{REST}{age}")]);
    assert_eq!(set("a.b-c_d", None, Seen::default()), line(""));
    assert_eq!(set("a.b-c_d", Some(60), Seen::default()), line("; Max-Age=60"));
    assert_eq!(set("a.b-c_d", Some(u64::MAX), Seen::default()), line("; Max-Age=34560000"));
}

#[test]
fn attributes_follow_the_settings() {
    let settings = CookieSettings { same_site: SameSite::Strict, secure: false, ..settings() };
    let lines = settings.set(&settings.refresh, "a", None, Seen::default()).unwrap();
    assert_eq!(shown(lines), ["__Host-refresh=a; Path=/; HttpOnly; SameSite=Strict"]);
}

#[test]
fn value_that_is_there_already_is_replaced_without_expiring() {
    let line = format!("__Host-access=a{REST}");
    assert_eq!(set("a", None, seen("__Host-access=b")), Ok(vec![line]));
}

#[test]
fn stale_spellings_are_expired_before_the_new_value_is_set() {
    let seen = seen("__Host-access.0=a; __Host-access.1=b; old=c; old.2=d");
    let expected = [
        gone("__Host-access.0"),
        gone("__Host-access.1"),
        gone("old"),
        gone("old.2"),
        format!("__Host-access=a{REST}"),
    ];
    assert_eq!(set("a", None, seen), Ok(expected.to_vec()));
}

#[test]
fn long_value_is_split_and_what_it_does_not_use_is_expired() {
    let value = "a".repeat(PART_BYTES_MAX) + "b";
    let seen = seen("__Host-access=x; __Host-access.1=x; __Host-access.3=x");
    let expected = [
        gone("__Host-access"),
        gone("__Host-access.3"),
        format!("__Host-access.0={}{REST}", "a".repeat(PART_BYTES_MAX)),
        format!("__Host-access.1=b{REST}"),
    ];
    assert_eq!(set(&value, None, seen), Ok(expected.to_vec()));
}

#[test]
fn split_starts_and_ends_at_the_documented_sizes() {
    let count = |bytes| set(&"a".repeat(bytes), None, Seen::default()).map(|lines| lines.len());
    assert_eq!(count(PART_BYTES_MAX), Ok(1));
    assert_eq!(count(PART_BYTES_MAX + 1), Ok(2));
    assert_eq!(count(PARTS_MAX * PART_BYTES_MAX), Ok(4));
    assert_eq!(count(15_201), Err(CookieFault::TooLarge { bytes: 15_201 }));
}

#[test]
fn what_is_written_is_read_back() {
    for bytes in [1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 3 * PART_BYTES_MAX, 15_200] {
        let value: String = ('a'..='z').cycle().take(bytes).collect();
        let lines = set(&value, Some(9), Seen::default()).unwrap();
        let sent: Vec<&str> = lines.iter().map(|line| line.split(';').next().unwrap()).collect();
        let cookies = sent.join("; ");
        let held = Cookies::read([cookies.as_bytes()], &settings()).access;
        assert_eq!(held.value, CookieValue::Text(value.into()), "{bytes}");
    }
}

#[test]
fn no_byte_breaks_out_of_a_value() {
    for value in ["", "a;b", "a b", "a\r\nb", "a\"b", "a,b", "a\\b", "a\0b", "é", "\u{7f}"] {
        assert_eq!(set(value, None, Seen::default()), Err(CookieFault::Unsafe), "{value:?}");
    }
}

#[test]
fn expiring_takes_the_current_name_and_all_that_was_seen() {
    let settings = settings();
    let expire = |seen| settings.expire(&settings.access, seen).map(shown);
    assert_eq!(expire(Seen::default()), Ok(vec![gone("__Host-access")]));
    let found = seen("old.0=x; __Host-access.2=x");
    let expected = ["__Host-access", "__Host-access.2", "old.0"].map(gone).to_vec();
    assert_eq!(expire(found), Ok(expected));
    assert_eq!(expire(Seen::ALL).map(|lines| lines.len()), Ok(10));
}

#[test]
fn upstreams_set_no_gateway_cookie_in_any_spelling() {
    for line in [
        "__Host-access=x; Path=/",
        "__host-ACCESS=x",
        " __Host-access =x",
        "\t__Host-refresh=x",
        "\"__Host-access\"=x",
        "__Host-access.0=x",
        "__Host-access.9=x",
        "=__Host-access=x",
        "__Host-access",
        "__Host-access;",
        "= __Host-refresh; Path=/",
        "\u{1}__Host-access=x",
        "__HOST-REFRESH.1=x",
        "__Host-session=x",
        "__host-Session.2=x",
    ] {
        assert!(is_gateway_cookie(line.as_bytes(), &settings()), "{line:?}");
    }
    for line in
        ["access=x", "__Host-accessx=y", "a=__Host-access", "old=x", "", "=", "x; __Host-access=y"]
    {
        assert!(!is_gateway_cookie(line.as_bytes(), &settings()), "{line:?}");
    }
}
