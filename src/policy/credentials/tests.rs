//! Reading, choosing and forwarding cookies.

use super::forward::{Forwarded, mapped, strip};
use super::*;
use crate::policy::set_cookie::{BackendCookies, SameSite};

fn settings() -> CookieSettings {
    let names = |name: &str, old: &str| CookieNames {
        name: name.into(),
        accept: vec![old.into(), format!("{old}_2").into()],
        path: "/".into(),
    };
    CookieSettings {
        access: names("__Host-access", "old_at"),
        refresh: names("__Host-refresh", "old_rt"),
        session: names("__Host-session", "old_st"),
        refresh_path: names("__Secure-refresh", "old_prt"),
        bounced: names("__Host-bounced", "old_bounced"),
        stamp: names("__Host-stamp", "old_st"),
        same_site: SameSite::Lax,
        secure: true,
    }
}

fn read<'a>(lines: &[&'a str]) -> Cookies<'a> {
    Cookies::read(lines.iter().map(|line| line.as_bytes()), &settings())
}

fn access<'a>(lines: &[&'a str]) -> CookieValue<'a> {
    read(lines).access.value
}

fn text(text: &str) -> CookieValue<'_> {
    CookieValue::Text(text.into())
}

#[test]
fn both_cookies_are_found_over_lines_and_crumbs() {
    let cookies = read(&["a=1; __Host-refresh=rt", "b=2", "__Host-access=at"]);
    assert_eq!(cookies.access.value, text("at"));
    assert_eq!(cookies.refresh.value, text("rt"));
    assert!(matches!(cookies.access.value, CookieValue::Text(Cow::Borrowed(_))));
}

#[test]
fn whitespace_and_whole_quotes_do_not_count() {
    for line in [
        "__Host-access=at",
        " __Host-access = at ;",
        "a;\t__Host-access=\tat",
        "__Host-access=\"at\"",
    ] {
        assert_eq!(access(&[line]), text("at"), "{line}");
    }
}

#[test]
fn look_alikes_are_other_cookies() {
    let lines = [
        "__host-access=x",
        "$__Host-access=x",
        "\"__Host-access\"=x",
        "__Host-accessx=x",
        "x__Host-access=x",
        "__Host-access.4=x",
        "__Host-access.=x",
        "__Host-access.00=x",
        "__Host-access",
        "a=__Host-access=x",
        "__Host%2Daccess=x",
        "=__Host-access=x",
    ];
    for line in lines {
        assert_eq!(access(&[line]), CookieValue::Absent, "{line}");
        assert_eq!(access(&[line, "__Host-access=at"]), text("at"), "{line}");
    }
}

#[test]
fn a_name_that_comes_twice_is_a_duplicate_whatever_the_values() {
    for lines in [
        &["__Host-access=a; __Host-access=a"][..],
        &["__Host-access=a", "__Host-access=b"],
        &["__Host-access=a; __Host-access="],
        &["__Host-access=a; __Host-access =b"],
        &["__Host-access=a; __Host-access=\"a\""],
        &["__Host-access=a; __Host-access.0=b"],
        &["__Host-access.0=a; __Host-access.1=b; __Host-access.0=a"],
        &["old_at=a; old_at=b"],
    ] {
        assert_eq!(access(lines), CookieValue::Duplicate, "{lines:?}");
    }
}

#[test]
fn old_names_are_read_in_order_and_only_while_ours_is_absent() {
    assert_eq!(access(&["old_at_2=c; old_at=b"]), text("b"));
    assert_eq!(access(&["old_at=b; __Host-access=a"]), text("a"));
    assert_eq!(access(&["old_at=b; __Host-access.0=a; old_at=b"]), text("a"));
    assert_eq!(access(&["old_at_2.1=d; old_at_2.0=c"]), text("cd"));
}

#[test]
fn parts_are_joined_in_their_own_order() {
    let line = "__Host-access.2=c; __Host-access.0=a; x=y; __Host-access.1=b";
    assert_eq!(access(&[line]), text("abc"));
}

#[test]
fn missing_parts_and_strange_bytes_break_the_value() {
    for line in [
        "__Host-access.1=b",
        "__Host-access.0=a; __Host-access.2=c",
        "__Host-access=a b",
        "__Host-access=é",
        "__Host-access=a\tb",
        "__Host-access.0=a; __Host-access.1=b c",
    ] {
        assert_eq!(access(&[line]), CookieValue::Broken, "{line}");
    }
}

#[test]
fn an_empty_cookie_is_absent() {
    for line in ["__Host-access=", "__Host-access=\"\"", ";;", ""] {
        assert_eq!(access(&[line]), CookieValue::Absent, "{line}");
    }
}

#[test]
fn what_was_seen_is_known_by_name_and_part() {
    let seen = read(&["old_at=a; old_at_2.3=b"]).access.seen;
    assert!(seen.only_old_names());
    assert!(seen.holds(1, None) && seen.holds(2, Some(3)));
    assert!(!seen.holds(0, None) && !seen.holds(2, None) && !seen.holds(1, Some(3)));
    assert!(!read(&["old_at=a; __Host-access=b"]).access.seen.only_old_names());
    assert!(read(&["a=b"]).access.seen.is_empty());
}

fn credential<'a>(
    cookie: &'a str,
    authorization: Authorization<'a>,
    kinds: [bool; 2],
) -> Result<Credential<'a>, Reason> {
    let [cookie_kind, bearer] = kinds;
    let kinds = CredentialKinds { cookie: cookie_kind, bearer };
    read(&[cookie]).credential(&authorization, kinds)
}

#[test]
fn cookie_or_bearer_but_never_both_silently() {
    let judge = |cookie, authorization| credential(cookie, authorization, [true, true]);
    let bearer = Authorization::Bearer("at");
    let cookie = "__Host-access=at";
    assert_eq!(judge("", Authorization::Absent), Ok(Credential::None));
    assert_eq!(judge("", Authorization::Other), Ok(Credential::None));
    assert_eq!(judge("", bearer), Ok(Credential::Bearer("at")));
    assert_eq!(judge(cookie, Authorization::Other), Ok(Credential::Cookie("at".into())));
    assert_eq!(judge(cookie, bearer), Ok(Credential::Cookie("at".into())));
    let other = Authorization::Bearer("other");
    assert_eq!(judge(cookie, other), Err(Reason::ConflictingCredentials));
}

#[test]
fn broken_credentials_are_named_and_conflict_too() {
    let judge = |cookie, authorization| credential(cookie, authorization, [true, true]);
    let (broken, bearer) = ("__Host-access.1=x", Authorization::Bearer("at"));
    let malformed = Authorization::Malformed;
    assert_eq!(judge(broken, Authorization::Absent), Ok(Credential::Broken { bearer: false }));
    assert_eq!(judge("", malformed), Ok(Credential::Broken { bearer: true }));
    assert_eq!(judge(broken, bearer), Err(Reason::ConflictingCredentials));
    assert_eq!(judge("__Host-access=at", malformed), Err(Reason::ConflictingCredentials));
}

#[test]
fn kinds_that_a_route_does_not_read_do_not_count() {
    let bearer = Authorization::Bearer("other");
    let cookie = "__Host-access=at";
    let twice = "__Host-access=at; __Host-access=at";
    assert_eq!(credential(cookie, bearer, [true, false]), Ok(Credential::Cookie("at".into())));
    assert_eq!(credential(twice, bearer, [false, true]), Ok(Credential::Bearer("other")));
    assert_eq!(credential(cookie, bearer, [false, false]), Ok(Credential::None));
}

#[test]
fn duplicate_of_either_cookie_is_refused() {
    for cookie in ["__Host-access=a; __Host-access=a", "__Host-refresh=a; __Host-refresh=b"] {
        let found = credential(cookie, Authorization::Absent, [true, true]);
        assert_eq!(found, Err(Reason::DuplicateCredential));
    }
}

fn stripped(lines: &[&str], also: &[&str]) -> Option<String> {
    shown(lines, strip(lines.iter().map(|line| line.as_bytes()), &settings(), also))
}

fn shown(lines: &[&str], forwarded: Forwarded) -> Option<String> {
    match forwarded {
        Forwarded::AsReceived => Some(format!("as received: {}", lines.join("|"))),
        Forwarded::Nothing => None,
        Forwarded::Line(line) => Some(String::from_utf8(line).unwrap()),
    }
}

#[test]
fn cookies_of_the_application_pass_byte_for_byte_in_order() {
    let cases: [(&[&str], Option<&str>); 9] = [
        (&[], Some("as received: ")),
        (&["b=2;a=\"1; ;=;x"], Some("as received: b=2;a=\"1; ;=;x")),
        (&["b=2", "a=1;c=3"], Some("b=2; a=1;c=3")),
        (&["__Host-access=x"], None),
        (&["__Host-access.0=x; __Host-refresh.3=y; old_at=z; old_rt_2=z"], None),
        (&["b=\"2 2\";__Host-access=x;a=1==; $v ;;"], Some("b=\"2 2\"; a=1==; $v")),
        (&["b=2", "__Host-access=x", "a=1"], Some("b=2; a=1")),
        (&["__Host-access=x; a=1"], Some("a=1")),
        (&["__Host-access"], None),
    ];
    for (lines, expected) in cases {
        assert_eq!(stripped(lines, &[]).as_deref(), expected, "{lines:?}");
    }
}

#[test]
fn further_names_are_stripped_when_told_so() {
    let line = "a=1; access_token=x; access_tokens=y";
    assert_eq!(stripped(&[line], &["access_token"]).as_deref(), Some("a=1; access_tokens=y"));
}

#[test]
fn bytes_that_are_no_text_pass() {
    let line: &[u8] = b"a=\xff; __Host-access=x; b=\xe9";
    let found = strip([line], &settings(), &[]);
    assert!(found == Forwarded::Line(b"a=\xff; b=\xe9".to_vec()));
}

#[test]
fn backend_gets_its_own_names_back() {
    let backend = BackendCookies { access: "at".into(), refresh: "rt".into() };
    let map = |line: &str, access, refresh| {
        let lines = [line.as_bytes()];
        shown(&[line], mapped(lines, &settings(), &backend, access, refresh))
    };
    let line = "a=1; __Host-access=x; at=planted; __Host-refresh.0=y";
    assert_eq!(map(line, Some("A"), Some("R")).as_deref(), Some("a=1; at=A; rt=R"));
    assert_eq!(map("a=1", Some("A"), None).as_deref(), Some("a=1; at=A"));
    assert_eq!(map("a=1", None, None).as_deref(), Some("as received: a=1"));
    assert_eq!(map("at=planted; rt=planted", None, None), None);
    assert_eq!(map("__Host-access=x", None, Some("a; at=b\r\n")), None);
}

#[test]
fn debug_shows_no_value() {
    let shown = format!("{:?}", read(&["__Host-access=secret; __Host-refresh.0=secret"]));
    assert!(!shown.contains("secret"), "{shown}");
}
