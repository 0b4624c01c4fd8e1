//! Percent-escapes: one way to write each byte (RFC 3986 §6.2.2).

use std::borrow::Cow;

use super::{EncodedSlash, PathFault, PathRules};

/// The path with every escape of a visible character decoded, but for `%2F` and `%25`: one key for
/// all spellings of a path.
///
/// Many backends decode before they route, so a guard on `/@staff/*` must also hold for
/// `/%40staff/`. Only keys are made with it; what is forwarded keeps its spelling. The other way,
/// to refuse such escapes, was rejected: every `encodeURIComponent` writes them.
pub fn one_spelling(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match escaped_byte(after) {
            Some(byte @ 0x21..=0x7e) if byte != b'/' && byte != b'%' => {
                out.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            Some(_) | None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Decodes escapes of unreserved characters and upper-cases the others.
pub(super) fn unescape<'a>(raw: &'a str, rules: &PathRules) -> Result<Cow<'a, str>, PathFault> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut settled = true;
    let mut adjacent = None;
    for after in raw.split('%').skip(1) {
        let value = escaped_byte(after).ok_or(PathFault::BadEscape)?;
        judge_escape(value, rules)?;
        if adjacent.is_some_and(|lead| is_overlong(lead, value)) {
            return Err(PathFault::Overlong);
        }
        adjacent = (after.len() == 2).then_some(value);
        let upper = !after.bytes().take(2).any(|digit| digit.is_ascii_lowercase());
        settled &= upper && !is_unreserved(value);
    }
    let path = if settled { Cow::Borrowed(raw) } else { Cow::Owned(decoded(raw)) };
    // Judged on the result: `%25%32%65` becomes `%252e` only here.
    for (at, _) in path.match_indices("%25") {
        if path.get(at + 3..).and_then(escaped_byte).is_some() {
            return Err(PathFault::DoubleEscape);
        }
    }
    Ok(path)
}

fn judge_escape(value: u8, rules: &PathRules) -> Result<(), PathFault> {
    match value {
        0..=0x1f | 0x7f => Err(PathFault::EscapedControl),
        b'\\' => Err(PathFault::EscapedBackslash),
        b'/' => match rules.encoded_slash {
            EncodedSlash::Refuse => Err(PathFault::EscapedSlash),
            EncodedSlash::Keep => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Do these two bytes begin a UTF-8 sequence longer than need be (RFC 3629 §3)? Careless decoders
/// read `%C0%AF` as `/`. Other bytes that are no UTF-8 pass: old applications escape Latin-1.
fn is_overlong(lead: u8, next: u8) -> bool {
    matches!((lead, next), (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f))
}

/// `raw`, whose escapes are all complete, with RFC 3986 §6.2.2 applied to them.
fn decoded(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut pieces = raw.split('%');
    out.push_str(pieces.next().unwrap_or_default());
    for after in pieces {
        let (digits, tail) = after.split_at_checked(2).unwrap_or((after, ""));
        match escaped_byte(digits) {
            Some(value) if is_unreserved(value) => out.push(char::from(value)),
            Some(_) | None => {
                out.push('%');
                out.push_str(&digits.to_ascii_uppercase());
            }
        }
        out.push_str(tail);
    }
    out
}

/// The byte that two hexadecimal digits at the start of `text` stand for.
fn escaped_byte(text: &str) -> Option<u8> {
    let [high, low, ..] = text.as_bytes() else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
