//! What a refresh cookie holds: `token`, or `issuer~token` where there are several issuers.
//!
//! A forged access token must not choose which backend is asked, so the refresh cookie names its
//! issuer itself. A token that a cookie cannot hold, or that holds a `~`, is written as `~` and its
//! base64url; nothing else begins with `~`, so both steps can be undone without guessing.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::policy::claims::IssuerId;
use crate::policy::set_cookie::is_cookie_octet;

/// The cookie value for `token`; `issuer` is the issuer's name where there are several.
pub fn write(token: &str, issuer: Option<&str>) -> String {
    let mut out = String::with_capacity(token.len() + issuer.map_or(0, |name| name.len() + 1));
    if let Some(name) = issuer {
        out.push_str(name);
        out.push('~');
    }
    match token.bytes().all(|byte| is_cookie_octet(byte) && byte != b'~') {
        true => out.push_str(token),
        false => {
            out.push('~');
            URL_SAFE_NO_PAD.encode_string(token, &mut out);
        }
    }
    out
}

/// The issuer and the token of a refresh cookie's value.
///
/// `names` are all issuers' names, by `IssuerId`. A value without a name belongs to the route's
/// issuer if it has exactly one. `None` counts as absent: the issuer is open or not one of the
/// route's, or the value cannot have been written here.
pub fn read<'a>(
    value: &'a str,
    names: &[impl AsRef<str>],
    route_issuers: &[IssuerId],
) -> Option<(IssuerId, Cow<'a, str>)> {
    if let Some((name, token)) = value.split_once('~')
        && let Some(index) = names.iter().position(|known| known.as_ref() == name)
    {
        let issuer = IssuerId(u16::try_from(index).ok()?);
        return match route_issuers.contains(&issuer) {
            true => Some((issuer, decoded(token)?)),
            false => None,
        };
    }
    match route_issuers {
        [only] => Some((*only, decoded(value)?)),
        _ => None,
    }
}

fn decoded(token: &str) -> Option<Cow<'_, str>> {
    let token = match token.strip_prefix('~') {
        None => Cow::Borrowed(token),
        Some(encoded) => {
            let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
            Cow::Owned(String::from_utf8(bytes).ok()?)
        }
    };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["main", "partner"];
    const MAIN: IssuerId = IssuerId(0);
    const PARTNER: IssuerId = IssuerId(1);

    #[test]
    fn every_token_comes_back_as_it_was() {
        for token in
            ["abc", "a.b_c-d", "a~b", "~", "~YQ", "main~x", "a b;c\"d\\e,f", "é", "a=b/c+d"]
        {
            let bare = write(token, None);
            let named = write(token, Some("partner"));
            for value in [&bare, &named] {
                assert!(value.bytes().all(is_cookie_octet), "{value}");
            }
            assert_eq!(read(&bare, &NAMES, &[MAIN]), Some((MAIN, token.into())), "{token}");
            let both = [MAIN, PARTNER];
            assert_eq!(read(&named, &NAMES, &both), Some((PARTNER, token.into())), "{token}");
        }
    }

    #[test]
    fn plain_tokens_are_written_plainly() {
        assert_eq!(write("abc.DEF-1_2", None), "abc.DEF-1_2");
        assert_eq!(write("abc", Some("main")), "main~abc");
        assert_eq!(write("a b", Some("main")), "main~~YSBi");
    }

    #[test]
    fn bare_value_belongs_to_the_only_issuer_of_the_route() {
        assert_eq!(read("abc", &NAMES, &[PARTNER]), Some((PARTNER, "abc".into())));
        assert_eq!(read("abc", &NAMES, &[MAIN, PARTNER]), None);
        assert_eq!(read("abc", &NAMES, &[]), None);
    }

    #[test]
    fn name_of_another_route_s_issuer_counts_as_absent() {
        assert_eq!(read("partner~abc", &NAMES, &[MAIN]), None);
    }

    #[test]
    fn unknown_name_is_part_of_a_bare_token() {
        assert_eq!(read("x~abc", &NAMES, &[MAIN]), Some((MAIN, "x~abc".into())));
        assert_eq!(read("x~abc", &NAMES, &[MAIN, PARTNER]), None);
    }

    #[test]
    fn what_was_not_written_here_counts_as_absent() {
        for value in ["", "~", "main~", "main~~", "~a", "~!!", "main~~_w"] {
            assert_eq!(read(value, &NAMES, &[MAIN]), None, "{value}");
        }
    }
}
