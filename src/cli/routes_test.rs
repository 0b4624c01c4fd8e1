//! `evergate routes test METHOD URL`: which route takes a request, why others do not, what is
//! decided, and which headers the app would get. Asks nobody but for an issuer's keys; starts no
//! refresh.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{RUNTIME, RoutesTest as Arguments, USAGE, file, token};
use crate::clock;
use crate::config::Config;
use crate::policy::carrier::Carrier;
use crate::policy::decide::{Action, Asked, Passes, Session, Shape, Token, decide};
use crate::policy::endpoint;
use crate::policy::path;
use crate::policy::route::Route;
use crate::policy::route::table::{Found, RouteTable};
use crate::proxy::facts;
use crate::refresh::RefreshSettings;
use crate::token::Verdict;

/// Explains one request.
pub fn routes_test(args: &Arguments) -> ExitCode {
    let (_, loaded) = match file::load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match explained(&loaded.config, &request) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(RUNTIME)
        }
    }
}

/// A request as the command line gives it.
struct Request {
    method: Method,
    host: Option<String>,
    target: String,
    headers: HeaderMap,
    token: Option<String>,
}

impl Request {
    fn parse(args: &Arguments) -> Result<Request, String> {
        let method = Method::from_bytes(args.method.as_bytes())
            .map_err(|_| format!("`{}` is not a method", args.method))?;
        let (host, target) = split_url(&args.url)?;
        let mut headers = HeaderMap::new();
        for header in &args.headers {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| format!("`{header}` is not a header; expected `Name: value`"))?;
            let name = HeaderName::try_from(name.trim())
                .map_err(|_| format!("`{name}` is not a header's name"))?;
            let value = HeaderValue::try_from(value.trim())
                .map_err(|_| format!("the value of `{name}` cannot stand in a header"))?;
            headers.append(name, value);
        }
        let token = match &args.token {
            Some(path) => Some(
                token::read(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            ),
            None => None,
        };
        Ok(Request { method, host, target, headers, token })
    }
}

/// Host and target of a URL, or of a bare path.
fn split_url(url: &str) -> Result<(Option<String>, String), String> {
    if url.starts_with('/') {
        return Ok((None, url.to_owned()));
    }
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or_else(|| format!("`{url}` is neither a URL nor a path that begins with `/`"))?;
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(split);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok((Some(host.to_owned()), target))
}

fn explained(config: &Config, request: &Request) -> Result<String, String> {
    let mut out = String::new();
    let host = request.host.as_deref();
    let canonical = match path::canonicalise(request.target.as_bytes(), host, &config.paths) {
        Ok(canonical) => canonical,
        Err(fault) => return Ok(format!("answer    ambiguous_path: {fault}\n")),
    };
    let _ = writeln!(out, "path      {}", canonical.path);
    let bounces = config.carriers.contains(&Carrier::Path);
    match config.gateway_path.find(&canonical.matched, &request.method, bounces) {
        None => {}
        Some(endpoint::Found::Endpoint(endpoint)) => {
            return Ok(format!("{out}serve     {}\n", endpoint.label()));
        }
        Some(endpoint::Found::MethodNotAllowed { allow }) => {
            return Ok(format!("{out}answer    method_not_allowed, Allow: {allow}\n"));
        }
        Some(endpoint::Found::Unknown) => return Ok(out + "answer    no_route\n"),
    }
    let table = RouteTable::new(config.routes.clone())
        .map_err(|ties| format!("{} routes tie", ties.len()))?;
    for (route, verdict) in table.explain(host, &canonical.matched, &request.method) {
        let _ = writeln!(out, "route     {:<24} {verdict}", route.name);
    }
    let preflight = facts::preflight_method(&request.method, &request.headers);
    let found = match &preflight {
        Some(announced) => table.find_preflight(host, &canonical.matched, announced),
        None => table.find(host, &canonical.matched, &request.method),
    };
    let route = match found {
        Found::Route(route) => Arc::clone(route),
        Found::NoRoute => return Ok(out + "answer    no_route\n"),
        Found::MethodNotAllowed { allow } => {
            let _ = writeln!(out, "answer    method_not_allowed, Allow: {allow}");
            return Ok(out);
        }
    };
    let client = facts::client(&request.method, &request.headers, route.answer_as);
    let asked = Asked {
        client,
        bearer: false,
        may_refresh_alongside: facts::may_refresh_alongside(&request.headers, preflight.is_some()),
        preflight: preflight.is_some(),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let token = judged(config, &route, request)?;
    let scoped = |refresh: &RefreshSettings| {
        let carrier = config.carriers.get(usize::from(refresh.issuer.0));
        carrier == Some(&Carrier::Path) && route.issuers.contains(&refresh.issuer)
    };
    let elsewhere = route.credentials.cookie && config.refresh.iter().any(scoped);
    let session = if elsewhere { Session::Elsewhere } else { Session::Absent };
    let _ = writeln!(out, "client    {client:?}, from 127.0.0.1, token {}", told(&token));
    decision(&mut out, &route, decide(&route, &asked, &token, &session));
    Ok(out)
}

fn judged(config: &Config, route: &Route, request: &Request) -> Result<Token, String> {
    let Some(text) = &request.token else { return Ok(Token::Absent) };
    let tokens = token::tokens(config)?;
    let now = clock::now();
    let verdict = token::block_on(tokens.verify(text, &route.issuers, now))?;
    Ok(match verdict {
        Verdict::Good(verified) | Verdict::Expired(verified) => Token::at(verified, now.unix),
        Verdict::Bad(reason) => Token::Broken(reason),
        Verdict::KeysUnavailable { retry_after_s } => Token::KeysUnavailable { retry_after_s },
    })
}

fn told(token: &Token) -> &'static str {
    match token {
        Token::Absent => "absent",
        Token::Valid(_) => "valid",
        Token::InWindow(_) => "valid, in its refresh window",
        Token::Expired(_) => "expired",
        Token::Broken(reason) => reason.word(),
        Token::KeysUnavailable { .. } => "not to be judged: keys_unavailable",
    }
}

fn decision(out: &mut String, route: &Route, action: Action) {
    match action {
        Action::Answer(answer) => {
            let shape = match answer.shape {
                Shape::Page | Shape::PageAfterForm | Shape::PageToRenew => "page",
                Shape::Bounce => "redirect to the refresh path",
                Shape::Json => "JSON",
                Shape::Redirect | Shape::RedirectAfterForm => "redirect to the login page",
                Shape::EventStreamRetry => "event stream that is told to come back",
            };
            let _ = writeln!(out, "answer    {} ({shape})", answer.reason);
        }
        Action::Forward(permit) => match permit.passes() {
            Passes::Anonymous => out.push_str("forward   without identity\n"),
            Passes::Preflight => out.push_str("forward   as a CORS preflight, without identity\n"),
            Passes::Person(verified) => {
                let _ = writeln!(out, "forward   as {}", verified.subject);
                match route.identity_headers.render_all(verified) {
                    Ok(headers) => {
                        for (header, value) in headers {
                            let name = &header.name;
                            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                            let _ = writeln!(out, "header    {name}: {value}");
                        }
                    }
                    Err(reason) => {
                        let _ = writeln!(out, "answer    {reason}");
                    }
                }
            }
        },
        // Without a refresh token nothing is looked up or renewed.
        Action::LookUp | Action::Renew => out.push_str("answer    needs the session's record\n"),
    }
}
