//! Policies, and what a token must say.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Context, issuers, server};
use crate::config::raw::route::{self as raw, Require};
use crate::config::raw::values::List;
use crate::config::reports::KeyPath;
use crate::policy::claims::{IssuerId, Requirement};

const POLICIES_MAX: usize = 256;

/// A policy as routes use it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `None`: all.
    pub issuers: Option<Vec<IssuerId>>,
    pub require: Option<Requirement>,
    pub source_ips: Option<Vec<IpNet>>,
}

pub fn policies(cx: &mut Context<'_>) -> BTreeMap<String, Policy> {
    let raw = cx.raw;
    let at = KeyPath::root().key("policies");
    cx.at_most(&at, raw.policies.len(), POLICIES_MAX);
    let mut policies = BTreeMap::new();
    for (name, policy) in &raw.policies {
        let at = at.key(name);
        cx.name(&at, name);
        policies.insert(name.clone(), one(cx, &at, policy));
    }
    policies
}

/// `None` if it asks for nothing.
pub fn requirement(cx: &mut Context<'_>, at: &KeyPath, raw: &Require) -> Option<Requirement> {
    let mut values = |key: &str, list: Option<&List<String>>| -> Vec<Box<str>> {
        let Some(list) = list else { return Vec::new() };
        not_empty(cx, &at.key(key), list.0.len());
        list.0.iter().map(|value| value.as_str().into()).collect()
    };
    let roles = values("roles", raw.roles.as_ref());
    let scopes = values("scopes", raw.scopes.as_ref());
    let mut claims = BTreeMap::new();
    for (path, values) in &raw.claims {
        let at = at.key("claims").key(path);
        issuers::claim_path(cx, &at, path);
        not_empty(cx, &at, values.0.len());
        let values = values.0.iter().map(|value| value.0.as_str().into()).collect();
        claims.insert(path.as_str().into(), values);
    }
    let requirement = Requirement { roles, scopes, claims };
    (!raw.is_nothing()).then_some(requirement)
}

/// An empty list asks for nothing, and whoever wrote it meant something.
fn not_empty(cx: &mut Context<'_>, at: &KeyPath, count: usize) {
    if count == 0 {
        cx.error(at, "an empty list asks for nothing", "expected a value, or the key left out");
    }
}

fn one(cx: &mut Context<'_>, at: &KeyPath, raw: &raw::Policy) -> Policy {
    let issuers = raw.issuer.as_ref().map(|list| {
        let at = at.key("issuer");
        if list.0.is_empty() {
            cx.error(&at, "no issuer at all: nobody could pass", "expected the name of an issuer");
        }
        let names = list.0.iter().enumerate();
        names.filter_map(|(index, name)| issuers::find(cx, &at.item(index), name)).collect()
    });
    let require = requirement(cx, &at.key("require"), &raw.require);
    let networks = raw.source_ips.as_ref();
    let source_ips = networks.map(|list| server::networks(cx, &at.key("source_ips"), list));
    Policy { issuers, require, source_ips }
}
