//! Identity as headers: templates over claims, and the names that no client may use.
//!
//! 1. A header whose claim is missing is absent; it is never sent empty or half filled.
//! 2. A claim that a header cannot carry without a second reading refuses the request.
//! 3. Names are compared after folding (see [`managed`]), because many backends fold them too.
//!
//! This room says what to write and what to remove; only the proxy touches headers.

pub mod template;
pub mod managed;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::claims::Verified;
use super::reason::Reason;

/// The identity headers of one or more routes, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderSet {
    pub headers: Vec<IdentityHeader>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    pub name: HeaderName,
    /// The name as it is configured and sent: some applications read headers by their spelling.
    pub spelling: Bytes,
    pub template: Template,
}

/// A parsed template: text and claims, such as `{claims.roles|join:,}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(Box<str>),
    /// `claims.user`, `claims.email`, `claims.roles`, `claims.scopes` go through the issuer's
    /// mapping; any other dotted path is read from the token itself.
    Claim {
        path: Box<str>,
        /// Separator for a list; without one a list is a missing claim.
        join: Option<Box<str>>,
    },
}

impl HeaderSet {
    /// The identity headers of one request; those whose claims are missing are left out.
    ///
    /// # Errors
    /// `bad_identity`.
    pub fn render_all(
        &self,
        verified: &Verified,
    ) -> Result<Vec<(&IdentityHeader, HeaderValue)>, Reason> {
        let mut rendered = Vec::with_capacity(self.headers.len());
        for header in &self.headers {
            if let Some(value) = header.template.render(verified)? {
                rendered.push((header, value));
            }
        }
        Ok(rendered)
    }
}
