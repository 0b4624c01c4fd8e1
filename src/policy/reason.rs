//! The closed list of denial reasons: the same word in log, metric, status page and error page.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a request was not forwarded, or a token not accepted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The one word for this reason, everywhere.
            pub const fn word(self) -> &'static str {
                match self { $(Reason::$name => $word,)* }
            }
        }
    };
}

reasons! {
    /// Neither an access token nor a refresh token that could bring one.
    NoCredentials = "no_credentials",
    /// The access token has expired and nothing can renew it.
    Expired = "expired",
    /// The auth backend said that the session is over.
    RefreshRefused = "refresh_refused",
    /// The session is older, or was idle for longer, than the configuration allows.
    SessionExpired = "session_expired",
    /// The token, its session or its person was denied before the token expired.
    Revoked = "revoked",
    MalformedToken = "malformed_token",
    TokenTooLarge = "token_too_large",
    /// An encrypted token (five parts, RFC 7516): named, so that the operator knows what to change.
    JweUnsupported = "jwe_unsupported",
    WrongAlgorithm = "wrong_algorithm",
    UnknownKey = "unknown_key",
    BadSignature = "bad_signature",
    WrongIssuer = "wrong_issuer",
    WrongAudience = "wrong_audience",
    WrongType = "wrong_type",
    NotYetValid = "not_yet_valid",
    MissingClaim = "missing_claim",
    MissingRole = "missing_role",
    MissingScope = "missing_scope",
    MissingValue = "missing_value",
    SourceIp = "source_ip",
    /// Not asked by a page of the same origin.
    CrossSite = "cross_site",
    /// A claim that cannot be written into a header safely (control bytes, a separator in a list).
    BadIdentity = "bad_identity",
    AmbiguousPath = "ambiguous_path",
    BadRequest = "bad_request",
    /// A cookie and a bearer token that differ.
    ConflictingCredentials = "conflicting_credentials",
    /// A gateway cookie that came twice.
    DuplicateCredential = "duplicate_credential",
    /// A page asks to have a session renewed that has no refresh token.
    NothingToRefresh = "nothing_to_refresh",
    /// A browser that was sent to the refresh path came back without what it was given, again and again.
    RefreshLoop = "refresh_loop",
    NoRoute = "no_route",
    MethodNotAllowed = "method_not_allowed",
    BodyTooLarge = "body_too_large",
    HeaderTooLarge = "header_too_large",
    KeysUnavailable = "keys_unavailable",
    RefreshUnavailable = "refresh_unavailable",
    /// The store that gateways share is away, and renewing without it could end the session.
    StoreUnavailable = "store_unavailable",
    UpstreamUnreachable = "upstream_unreachable",
    UpstreamTimeout = "upstream_timeout",
    Internal = "internal",
}

impl Reason {
    /// Would logging in (again) help? Such answers are 401, or a redirect to the login page.
    pub const fn means_log_in(self) -> bool {
        match self {
            Reason::NoCredentials
            | Reason::Expired
            | Reason::RefreshRefused
            | Reason::SessionExpired
            | Reason::Revoked
            | Reason::MalformedToken
            | Reason::TokenTooLarge
            | Reason::JweUnsupported
            | Reason::WrongAlgorithm
            | Reason::UnknownKey
            | Reason::BadSignature
            | Reason::WrongIssuer
            | Reason::WrongAudience
            | Reason::WrongType
            | Reason::NotYetValid
            | Reason::MissingClaim => true,
            Reason::MissingRole
            | Reason::MissingScope
            | Reason::MissingValue
            | Reason::SourceIp
            | Reason::CrossSite
            | Reason::BadIdentity
            | Reason::AmbiguousPath
            | Reason::BadRequest
            | Reason::ConflictingCredentials
            | Reason::DuplicateCredential
            | Reason::NothingToRefresh
            | Reason::RefreshLoop
            | Reason::NoRoute
            | Reason::MethodNotAllowed
            | Reason::BodyTooLarge
            | Reason::HeaderTooLarge
            | Reason::KeysUnavailable
            | Reason::RefreshUnavailable
            | Reason::StoreUnavailable
            | Reason::UpstreamUnreachable
            | Reason::UpstreamTimeout
            | Reason::Internal => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
