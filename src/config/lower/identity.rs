//! Identity headers: names that the gateway may write, templates that parse.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;

use super::Context;
use super::routes::Lowered;
use crate::config::reports::{KeyPath, Problem};
use crate::policy::identity::managed::{Class, Managed, fold};
use crate::policy::identity::{HeaderSet, IdentityHeader, Template};

const HEADERS_MAX: usize = 64;

/// Headers that frame a message, belong to one connection or that the gateway writes for another
/// purpose; those that nobody may send ([`Class::Forbidden`]) come on top.
const RESERVED: [&str; 22] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// `identity_headers` of the whole gateway.
pub fn global(cx: &mut Context<'_>) -> Arc<HeaderSet> {
    let at = KeyPath::root().key("identity_headers");
    Arc::new(header_set(cx, &at, &cx.raw.identity_headers))
}

/// One set of identity headers.
pub fn header_set(cx: &mut Context<'_>, at: &KeyPath, raw: &BTreeMap<String, String>) -> HeaderSet {
    cx.at_most(at, raw.len(), HEADERS_MAX);
    let mut set = HeaderSet::default();
    for (name, text) in raw {
        let at = at.key(name);
        let header = cx.ok(&at, header_name(name, &set).map_err(Problem::about_key));
        let template = Template::parse(text).map_err(Problem::error);
        let template = cx.ok(&at, template);
        if let Some((header, template)) = header.zip(template) {
            let spelling = Bytes::from(name.clone());
            set.headers.push(IdentityHeader { name: header, spelling, template });
        }
    }
    set
}

/// Every name that no client may use, on whatever route.
pub fn managed(global: &HeaderSet, routes: &[Lowered]) -> Vec<HeaderName> {
    let sets = routes.iter().map(|lowered| lowered.route.identity_headers.as_ref());
    let mut names: Vec<HeaderName> = std::iter::once(global)
        .chain(sets)
        .flat_map(|set| set.headers.iter().map(|header| header.name.clone()))
        .collect();
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}

fn header_name(text: &str, before: &HeaderSet) -> Result<HeaderName, Problem> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Problem::error("not the name of a header"))?;
    let folded = fold(text);
    let forbidden = Managed::new([]).class(&folded) == Class::Forbidden;
    if forbidden || RESERVED.contains(&&*folded) {
        return Err(Problem::error("not for identity: it steers the request or its connection")
            .expected("expected another name, such as `X-Forwarded-User`"));
    }
    let twin = before.headers.iter().find(|other| fold(other.name.as_str()) == folded);
    if let Some(twin) = twin {
        let twin = &twin.name;
        return Err(Problem::error(format!("many apps cannot tell it from `{twin}`")));
    }
    Ok(name)
}
