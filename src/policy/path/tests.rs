//! The attack list `tests/data/paths.txt`, and what must hold for every target.

use super::*;

const ATTACKS: &str = include_str!("../../../tests/data/paths.txt");

fn rules(switches: &str) -> PathRules {
    let mut rules = PathRules::default();
    for switch in switches.split('+') {
        match switch {
            "-" => {}
            "merge" => rules.double_slash = DoubleSlash::Merge,
            "resolve" => rules.dot_segments = DotSegments::Resolve,
            "keep" => rules.encoded_slash = EncodedSlash::Keep,
            "java" => rules.parameters = Parameters::Java,
            _ => panic!("unknown switch {switch}"),
        }
    }
    rules
}

fn all_rules() -> impl Iterator<Item = PathRules> {
    (0..16_u8).map(|bits| PathRules {
        double_slash: [DoubleSlash::Refuse, DoubleSlash::Merge][usize::from(bits & 1)],
        dot_segments: [DotSegments::Refuse, DotSegments::Resolve][usize::from(bits >> 1 & 1)],
        encoded_slash: [EncodedSlash::Refuse, EncodedSlash::Keep][usize::from(bits >> 2 & 1)],
        parameters: [Parameters::Refuse, Parameters::Java][usize::from(bits >> 3 & 1)],
    })
}

/// `\xNN` in the list stands for one byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut out = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        out.push(u8::from_str_radix(digits, 16).unwrap());
        out.extend(rest.as_bytes());
    }
    out
}

/// `= path?query ~ matched` or `! fault`.
fn shown(result: &Result<Canonical<'_>, PathFault>) -> String {
    match result {
        Err(fault) => format!("! {fault}"),
        Ok(canonical) => {
            let mut line = format!("= {}", canonical.path);
            if let Some(query) = canonical.query {
                line.push('?');
                line.push_str(query);
            }
            if canonical.matched != canonical.path {
                line.push_str(" ~ ");
                line.push_str(&canonical.matched);
            }
            line
        }
    }
}

#[test]
fn attack_list_is_judged_as_written() {
    let mut judged = 0;
    for line in ATTACKS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (switches, rest) = line.split_once(' ').unwrap();
        let (target, expected) = rest.trim_start().split_once(' ').unwrap();
        let (target, expected) = (bytes(target), expected.trim_start());
        let result = canonicalise(&target, Some("app.example:8080"), &rules(switches));
        assert_eq!(shown(&result), expected, "{line}");
        judged += 1;
    }
    assert!(judged >= 100, "only {judged} lines");
}

/// Targets from pieces that mean something to some parser, by a fixed pseudo-random sequence.
fn targets(count: usize) -> impl Iterator<Item = String> {
    const PIECES: [&str; 32] = [
        "/", "/", "/", "//", ".", "..", "a", "b", "Z", "~", "%2e", "%2E", "%2f", "%2F", "%5c",
        "%25", "%32", "%41", "%c3%a9", "%40", "%3b", ";", ";x=1", "\\", "?", "q=//", "%", "%0",
        "@", "%2", "#", "%20",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        // xorshift64 (Marsaglia 2003): no dependency, the same sequence on every machine.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    std::iter::repeat_with(move || {
        let length = next() % 10;
        let pieces = (0..length).map(|_| PIECES[next() % PIECES.len()]);
        std::iter::once("/").chain(pieces).collect()
    })
    .take(count)
}

#[test]
fn what_comes_out_is_canonical() {
    let mut accepted = 0;
    for target in targets(40_000) {
        for rules in all_rules() {
            let Ok(first) = canonicalise(target.as_bytes(), None, &rules) else { continue };
            accepted += 1;
            let again = canonicalise(first.path.as_bytes(), None, &rules).unwrap();
            assert_eq!((&again.path, &again.matched), (&first.path, &first.matched), "{target}");
            assert!(again.as_received, "{target}");
        }
    }
    assert!(accepted > 10_000, "{accepted} targets were accepted: the generator is of no use");
}

#[test]
fn what_comes_out_holds_nothing_that_was_refused() {
    for target in targets(40_000) {
        for rules in all_rules() {
            let Ok(found) = canonicalise(target.as_bytes(), None, &rules) else { continue };
            let path = &*found.path;
            assert!(path.starts_with('/') && !path.contains("//"), "{target}");
            assert!(path.bytes().all(|b| b.is_ascii_graphic()), "{target}");
            assert!(!path.contains(['\\', '#', '?']), "{target}");
            assert!(!path.contains("%5C") && !found.matched.contains(';'), "{target}");
            let kept = rules.encoded_slash == EncodedSlash::Keep;
            assert!(kept || !path.contains("%2F"), "{target}");
            // The most lenient backend: decodes all, then cuts parameters.
            let lenient = one_spelling(path).replace("%2F", "/");
            let mut names = lenient.split('/').map(|s| s.split(';').next().unwrap());
            assert!(!names.any(|name| name == "." || name == ".."), "{target}");
        }
    }
}

#[test]
fn canonical_targets_are_borrowed() {
    for target in ["/", "/a/b.c/", "/a%20b/%C3%A9", "/a?x=%2e%2E//..", "/%25zz", "/...", "/a..b"] {
        let found = canonicalise(target.as_bytes(), None, &PathRules::default()).unwrap();
        assert!(found.as_received, "{target}");
        assert!(matches!(found.path, Cow::Borrowed(_)), "{target}");
        assert!(matches!(found.matched, Cow::Borrowed(_)), "{target}");
    }
}

#[test]
fn absolute_form_is_for_the_host_of_the_request() {
    let judge = |target: &'static str, host| {
        shown(&canonicalise(target.as_bytes(), host, &PathRules::default()))
    };
    assert_eq!(judge("http://a/x?y", Some("A.:80")), "= /x?y");
    assert_eq!(judge("HTTPS://a:443", Some("a")), "= /");
    assert_eq!(judge("http://a/x", None), "! absolute URL for another host");
    assert_eq!(judge("http://a/x", Some("b")), "! absolute URL for another host");
    assert_eq!(judge("http://a/x", Some("a:8080")), "! absolute URL for another host");
    assert_eq!(judge("http://u@a/x", Some("a")), "! absolute URL for another host");
}

fn stripped(path: &str, prefix: &str, switches: &str) -> Result<String, PathFault> {
    let rules = rules(switches);
    strip(&canonicalise(path.as_bytes(), None, &rules).unwrap(), prefix, &rules)
}

#[test]
fn whole_segments_are_stripped() {
    assert_eq!(stripped("/api/x/", "/api", "-"), Ok("/x/".to_owned()));
    assert_eq!(stripped("/api", "/api", "-"), Ok("/".to_owned()));
    assert_eq!(stripped("/api/", "/api", "-"), Ok("/".to_owned()));
    assert_eq!(stripped("/a/b/c?q", "/a/b", "-"), Ok("/c".to_owned()));
    assert_eq!(stripped("/api;v=1/x;y", "/api", "java"), Ok("/x;y".to_owned()));
    assert_eq!(stripped("/%40me/x", "/@me", "-"), Ok("/x".to_owned()));
}

#[test]
fn path_outside_the_prefix_is_not_forwarded() {
    for path in ["/apix", "/", "/x/api", "/API/x", "/ap/i"] {
        assert_eq!(stripped(path, "/api", "-"), Err(PathFault::PrefixAbsent), "{path}");
    }
}

#[test]
fn rest_is_judged_again() {
    let canonical = Canonical {
        path: "/api//evil.example".into(),
        matched: "/api//evil.example".into(),
        query: None,
        as_received: true,
    };
    let found = strip(&canonical, "/api", &PathRules::default());
    assert_eq!(found, Err(PathFault::DoubleSlash));
}
