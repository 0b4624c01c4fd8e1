//! Every combination of the core's enums, decided, in `tests/data/decisions.txt`: a change of
//! behaviour is a diff of that file. Write it anew with `EVERGATE_BLESS=1`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use evergate::policy::claims::{Identity, IssuerId, Requirement, Verified};
use evergate::policy::decide::{
    Action, Alongside, Asked, Client, Passes, Renewed, Session, Shape, Token, decide,
};
use evergate::policy::identity::HeaderSet;
use evergate::policy::reason::Reason;
use evergate::policy::route::{
    AnswerAs, Auth, CacheMode, CredentialKinds, HostPattern, PathPattern, Preflight, Route,
    Timeouts, UpstreamId,
};
use evergate::policy::secret::Secret;
use evergate::policy::time::UnixSeconds;

const CLIENTS: [(&str, Client); 5] = [
    ("navigation", Client::Navigation),
    ("form", Client::FormNavigation),
    ("program", Client::Program),
    ("websocket", Client::WebSocket),
    ("event_stream", Client::EventStream),
];

fn verified(subject: &str, roles: &[&str]) -> Arc<Verified> {
    Arc::new(Verified {
        issuer: IssuerId(0),
        subject: subject.into(),
        session_id: None,
        token_id: None,
        issued_at: None,
        expires_at: UnixSeconds(1_000),
        life_s: 300,
        refresh_at: UnixSeconds(950),
        identity: Identity {
            roles: roles.iter().map(|role| Box::from(*role)).collect(),
            ..Identity::default()
        },
        claims: serde_json::Map::new(),
    })
}

fn renewed(subject: &str, roles: &[&str]) -> Renewed {
    Renewed { verified: verified(subject, roles), access: Secret::new("new") }
}

fn tokens() -> Vec<(&'static str, Token)> {
    let alice = || verified("alice", &["staff"]);
    vec![
        ("absent", Token::Absent),
        ("valid", Token::Valid(alice())),
        ("in_window", Token::InWindow(alice())),
        ("expired", Token::Expired(alice())),
        ("broken", Token::Broken(Reason::BadSignature)),
        ("no_keys", Token::KeysUnavailable { retry_after_s: 3 }),
    ]
}

fn sessions() -> Vec<(&'static str, Session)> {
    vec![
        ("not_asked", Session::NotAsked),
        ("absent", Session::Absent),
        ("elsewhere", Session::Elsewhere),
        ("live", Session::Live),
        ("fresh", Session::Fresh(renewed("alice", &["staff"]))),
        ("fresh_other", Session::Fresh(renewed("mallory", &["staff"]))),
        ("cooling", Session::Cooling { retry_after_s: 2 }),
        ("dead", Session::Dead),
        ("spent", Session::Spent),
        ("ended", Session::Ended),
        ("renewed", Session::Renewed(renewed("alice", &["staff"]))),
        ("renewed_no_role", Session::Renewed(renewed("alice", &[]))),
        ("renewed_other", Session::Renewed(renewed("mallory", &["staff"]))),
        ("refused", Session::Refused),
        ("unavailable", Session::Unavailable { retry_after_s: 5 }),
    ]
}

fn route(auth: Auth, role: Option<&str>, login: bool) -> Route {
    let second = std::time::Duration::from_secs(1);
    Route {
        index: 0,
        name: Arc::from("r"),
        host: HostPattern::Any,
        path: PathPattern::Prefix("".into()),
        methods: None,
        auth,
        issuers: vec![IssuerId(0)],
        require: role
            .map(|role| Requirement { roles: vec![role.into()], ..Requirement::default() })
            .into_iter()
            .collect(),
        source_ips: None,
        upstream: UpstreamId(0),
        timeouts: Timeouts {
            connect: second,
            read: second,
            write: second,
            idle: second,
            stream_idle: second,
        },
        strip_prefix: None,
        identity_headers: Arc::new(HeaderSet::default()),
        adopt_tokens: None,
        pass_access_token: false,
        answer_as: AnswerAs::Auto,
        credentials: CredentialKinds { cookie: true, bearer: true },
        preflight: Preflight::Pass,
        cache: CacheMode::Private,
        access_log: true,
        body_bytes_max: 1,
        cut_on_expiry: true,
        stream_age_max: None,
        inject_script: false,
        passive: false,
        login_redirect: login.then(|| Arc::from("/login?return_to={url}")),
    }
}

fn told(action: &Action) -> String {
    match action {
        Action::LookUp => "look up".into(),
        Action::Renew => "renew".into(),
        Action::Forward(permit) => {
            let who = match permit.passes() {
                Passes::Person(verified) => verified.subject.to_string(),
                Passes::Anonymous => "nobody".into(),
                Passes::Preflight => "preflight".into(),
            };
            let beside = match permit.alongside() {
                Alongside::Nothing => "",
                Alongside::Refresh => " + refresh alongside",
                Alongside::Deliver => " + deliver",
            };
            format!("forward as {who}{beside}")
        }
        Action::Answer(answer) => {
            let shape = match answer.shape {
                Shape::PageAfterForm => "form page",
                Shape::PageToRenew => "page to renew",
                Shape::Bounce => "bounce",
                Shape::Page => "page",
                Shape::Json => "json",
                Shape::Redirect => "302",
                Shape::RedirectAfterForm => "303",
                Shape::EventStreamRetry => "come back",
            };
            let retry = answer.retry_after_s.map(|s| format!(" in {s} s")).unwrap_or_default();
            format!("{} {shape}{retry}", answer.reason)
        }
    }
}

/// The five clients' outcomes in one line; one word where all agree.
fn line(route: &Route, token: &Token, session: &Session, bearer: bool, alongside: bool) -> String {
    let outcomes: Vec<(&str, String)> = CLIENTS
        .iter()
        .map(|(name, client)| {
            let asked = Asked {
                client: *client,
                bearer,
                may_refresh_alongside: alongside,
                preflight: false,
                source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            };
            (*name, told(&decide(route, &asked, token, session)))
        })
        .collect();
    if outcomes.iter().all(|(_, told)| *told == outcomes[0].1) {
        return outcomes[0].1.clone();
    }
    let told: Vec<String> = outcomes.iter().map(|(name, told)| format!("{name}: {told}")).collect();
    told.join("; ")
}

/// The sessions that share an outcome, in the order in which outcomes first appear.
fn by_outcome(
    route: &Route,
    token: &Token,
    bearer: bool,
    beside: bool,
) -> Vec<(String, Vec<&'static str>)> {
    let mut outcomes: Vec<(String, Vec<&'static str>)> = Vec::new();
    for (name, session) in sessions() {
        let outcome = line(route, token, &session, bearer, beside);
        match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, names)) => names.push(name),
            None => outcomes.push((outcome, vec![name])),
        }
    }
    outcomes
}

fn enumerated() -> String {
    let mut out = String::from(
        "# auth | requires | login page | credential | may refresh alongside | token | sessions -> outcome\n\
         # One line where every client is treated alike. Written by tests/decisions.rs.\n",
    );
    for (auth_name, auth) in
        [("required", Auth::Required), ("optional", Auth::Optional), ("public", Auth::Public)]
    {
        for (needs, role) in [("-", None), ("staff", Some("staff")), ("admin", Some("admin"))] {
            for (login_name, login) in [("login", true), ("no login", false)] {
                for (bearer_name, bearer) in [("cookie", false), ("bearer", true)] {
                    for (beside_name, beside) in [("page", true), ("image", false)] {
                        let route = route(auth, role, login);
                        for (token_name, token) in tokens() {
                            let head = format!(
                                "{auth_name} | {needs} | {login_name} | {bearer_name} | {beside_name} | {token_name}"
                            );
                            for (outcome, names) in by_outcome(&route, &token, bearer, beside) {
                                let _ = writeln!(out, "{head} | {} -> {outcome}", names.join(", "));
                            }
                        }
                    }
                }
            }
        }
    }
    out
}

#[test]
fn every_combination_is_decided_as_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/decisions.txt");
    let told = enumerated();
    if std::env::var_os("EVERGATE_BLESS").is_some() {
        std::fs::write(path, &told).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let difference = told.lines().zip(written.lines()).find(|(new, old)| new != old);
    assert_eq!(difference, None, "behaviour changed: if it was meant, EVERGATE_BLESS=1");
    assert_eq!(told.len(), written.len());
}

#[test]
fn nobody_passes_a_required_route_without_a_token_that_holds() {
    let no_token = |token: &Token| {
        matches!(
            token,
            Token::Absent | Token::Expired(_) | Token::Broken(_) | Token::KeysUnavailable { .. }
        )
    };
    let told =
        tokens().into_iter().filter(|(_, token)| no_token(token)).flat_map(|(name, token)| {
            sessions().into_iter().map(move |(session_name, session)| {
                let told = line(&route(Auth::Required, None, true), &token, &session, false, true);
                (name, session_name, told)
            })
        });
    for (token, session, told) in told {
        let renewed = matches!(
            session,
            "fresh" | "renewed" | "fresh_other" | "renewed_other" | "renewed_no_role"
        );
        assert!(renewed || !told.contains("forward"), "{token} {session}: {told}");
        // Somebody else's renewed token passes only where no token says who was here before.
        if token == "expired" && session.ends_with("other") {
            assert!(!told.contains("forward"), "{token} {session}: {told}");
        }
    }
}

#[test]
fn a_request_outside_the_sources_never_passes() {
    let mut route = route(Auth::Public, None, false);
    route.source_ips = Some(vec!["10.0.0.0/8".parse().unwrap()]);
    let told = line(&route, &Token::Absent, &Session::Absent, false, true);
    assert!(told.contains("source_ip") && !told.contains("forward"), "{told}");
}

#[test]
fn a_preflight_passes_as_nobody_where_the_route_says_so() {
    let asked = Asked {
        client: Client::Program,
        bearer: false,
        may_refresh_alongside: false,
        preflight: true,
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let mut route = route(Auth::Required, None, false);
    let passes = decide(&route, &asked, &Token::Absent, &Session::Absent);
    route.preflight = Preflight::Deny;
    let judged = decide(&route, &asked, &Token::Absent, &Session::Absent);
    assert_eq!(told(&passes), "forward as preflight");
    assert_eq!(told(&judged), "no_credentials json");
}
