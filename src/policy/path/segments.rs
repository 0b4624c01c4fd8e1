//! Segments: empty ones, dots, parameters.

use std::borrow::Cow;

use super::{DotSegments, DoubleSlash, PathFault, PathRules};

/// Refuses, merges or resolves segments that are empty or dots.
pub(super) fn settle<'a>(path: Cow<'a, str>, rules: &PathRules) -> Result<Cow<'a, str>, PathFault> {
    let mut settled = true;
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            match rules.double_slash {
                DoubleSlash::Refuse => return Err(PathFault::DoubleSlash),
                DoubleSlash::Merge => settled = false,
            }
        } else if segment == "." || segment == ".." {
            match rules.dot_segments {
                DotSegments::Refuse => return Err(PathFault::DotSegment),
                DotSegments::Resolve => settled = false,
            }
        } else if hides_dots(segment) {
            return Err(PathFault::DotSegment);
        }
    }
    Ok(if settled { path } else { Cow::Owned(resolved(&path)) })
}

/// Would a backend find a dot segment here, after decoding `%2F` or cutting parameters?
///
/// Refused whatever is switched on: with both readings open, no rewriting is right for every
/// backend.
fn hides_dots(segment: &str) -> bool {
    if !segment.contains(['%', ';']) {
        return false;
    }
    segment.split("%2F").any(|piece| {
        let name = piece.split(';').next().unwrap_or_default();
        let name = name.split("%3B").next().unwrap_or_default();
        name == "." || name == ".."
    })
}

/// `path` without empty segments (but the last) and with dot segments resolved, RFC 3986 §5.2.4.
fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in path.split('/').skip(1) {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if directory {
        out.push('/');
    }
    out
}

/// `path` with every `;…` cut out.
pub(super) fn without_parameters(path: &str) -> Result<String, PathFault> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(';').next().unwrap_or_default();
        // `/;x/admin` would be matched as `//admin`, which some backends read as `/admin`.
        if name.is_empty() && segments.peek().is_some() {
            return Err(PathFault::Parameters);
        }
        out.push('/');
        out.push_str(name);
    }
    Ok(out)
}
