//! How a browser holds a session's tokens.

/// `refresh.carrier`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carrier {
    /// Access token and refresh token, each in a cookie for every path.
    #[default]
    Cookie,
    /// The refresh token in a cookie that the browser sends to the gateway's refresh path only.
    Path,
    /// Both tokens in one cookie that only gateways can read.
    Sealed,
    /// Neither: a cookie with a handle that nobody can guess, under which the gateway keeps both.
    Server,
}
