//! Why a token was not accepted: the word for the client, a sentence for the operator.

use crate::policy::reason::Reason;

/// A refusal. The sentence is fixed text, so it can never carry a part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    pub detail: &'static str,
}

impl Refused {
    pub const fn because(reason: Reason, detail: &'static str) -> Refused {
        Refused { reason, detail }
    }

    pub const fn malformed(detail: &'static str) -> Refused {
        Refused { reason: Reason::MalformedToken, detail }
    }

    pub const fn missing(detail: &'static str) -> Refused {
        Refused { reason: Reason::MissingClaim, detail }
    }
}
