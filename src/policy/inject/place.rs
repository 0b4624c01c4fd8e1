//! Where a page's first script goes: found in a stream, byte by byte, in one pass.
//!
//! The rule is the parser's own (HTML Standard §13.2.6.4.1 to .4.3, "initial" to "before head"): a
//! byte-order mark, white space, comments, the doctype and `<html …>` are passed over. What comes
//! then decides: right after `<head …>`, or right before anything else, which opens a head that the
//! page did not write. So the script is the head's first child in every page, the doctype stays what
//! it was, and nothing after that place is looked at.
//!
//! XHTML is XML, in which a tag at a wrong place is an error instead of a page: there only `<html>`
//! with a `<head>` in it will do.
//!
//! What is passed over leaves at once. Held back are the few bytes that could still become `<html` or
//! `<head`. A parser with a tree was rejected: the ones that stream bring a selector engine of which
//! nothing is used, under a licence that `deny.toml` does not take.

use super::Kept;

/// A page with more than this before its head is left alone.
pub const LOOKED_AT_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    Html,
    Xml,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Inserted,
    Kept(Kept),
}

/// A search in one page.
pub struct Search {
    syntax: Syntax,
    state: State,
    looked_at: usize,
    /// Bytes that may turn out to stand after the place.
    held: Vec<u8>,
}

/// Names as in the standard's tokeniser (§13.2.5), as far as they are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte, or within a byte-order mark.
    Start,
    /// Between tags.
    Data,
    /// After `<`.
    TagOpen,
    /// In a name that may become `html` or `head`.
    TagName,
    Attributes(Tag, Attribute),
    /// After `<!`.
    Declaration,
    /// After `<!-`.
    DeclarationDash,
    Comment(Comment),
    /// A doctype, or what is taken for a comment: up to the next `>`, quoted or not.
    Bogus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Html,
    Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    BeforeName,
    Slash,
    Name,
    AfterName,
    BeforeValue,
    DoubleQuoted,
    SingleQuoted,
    Unquoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comment {
    Start,
    StartDash,
    Inside,
    Dash,
    End,
    EndBang,
}

/// What one byte means.
enum Step {
    /// It stands before the place, as does all that was held.
    Pass(State),
    Hold(State),
    /// The place is before all that is held.
    Before,
    /// The place is right after this byte.
    After,
    Nowhere(Kept),
}

impl Search {
    pub fn new(syntax: Syntax) -> Search {
        Search { syntax, state: State::Start, looked_at: 0, held: Vec::new() }
    }

    /// Takes the next piece and adds to `out` what may leave, `tag` at its place. After it has ended
    /// all of the piece has left, and what follows is not for this search.
    pub fn feed(&mut self, piece: &[u8], tag: &[u8], out: &mut Vec<u8>) -> Option<Ended> {
        for (index, &byte) in piece.iter().enumerate() {
            let step = match self.looked_at {
                LOOKED_AT_MAX => Step::Nowhere(Kept::TooFar),
                _ => self.step(byte),
            };
            self.looked_at += 1;
            let (before, after): (&[u8], &[u8]) = match step {
                Step::Pass(state) => {
                    self.state = state;
                    out.append(&mut self.held);
                    out.push(byte);
                    continue;
                }
                Step::Hold(state) => {
                    self.state = state;
                    self.held.push(byte);
                    continue;
                }
                Step::Before => (tag, &[]),
                Step::After => (&[], tag),
                Step::Nowhere(kept) => {
                    out.append(&mut self.held);
                    out.extend_from_slice(piece.get(index..).unwrap_or_default());
                    return Some(Ended::Kept(kept));
                }
            };
            out.extend_from_slice(before);
            out.append(&mut self.held);
            out.push(byte);
            out.extend_from_slice(after);
            out.extend_from_slice(piece.get(index + 1..).unwrap_or_default());
            return Some(Ended::Inserted);
        }
        None
    }

    /// The page has ended before the place was found: nothing was in it.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Ended {
        out.append(&mut self.held);
        Ended::Kept(Kept::Empty)
    }

    fn step(&self, byte: u8) -> Step {
        // UTF-16 without a mark has them, text has not.
        if byte == 0 {
            return Step::Nowhere(Kept::Charset);
        }
        match self.state {
            State::Start => self.mark(byte),
            State::Data => self.data(byte),
            State::TagOpen => match byte {
                b'!' => Step::Pass(State::Declaration),
                b'?' => Step::Pass(State::Bogus),
                byte if byte.is_ascii_alphabetic() => self.name(byte),
                // An end tag, or text.
                _ => self.something_else(),
            },
            State::TagName => self.name(byte),
            State::Attributes(tag, attribute) => self.attributes(tag, attribute, byte),
            State::Declaration => match byte {
                b'-' => Step::Pass(State::DeclarationDash),
                byte => self.bogus(byte),
            },
            State::DeclarationDash => match byte {
                b'-' => Step::Pass(State::Comment(Comment::Start)),
                byte => self.bogus(byte),
            },
            State::Comment(comment) => Step::Pass(in_comment(comment, byte)),
            State::Bogus => self.bogus(byte),
        }
    }

    /// A mark goes before what the page's header says of its character set.
    fn mark(&self, byte: u8) -> Step {
        match (self.held.as_slice(), byte) {
            // UTF-16, either way round.
            ([], 0xfe | 0xff) => Step::Nowhere(Kept::Charset),
            ([], 0xef) | ([0xef], 0xbb) => Step::Hold(State::Start),
            ([0xef, 0xbb], 0xbf) => Step::Pass(State::Data),
            ([], byte) => self.data(byte),
            ([_, ..], _) => self.something_else(),
        }
    }

    fn data(&self, byte: u8) -> Step {
        match byte {
            b'<' => Step::Hold(State::TagOpen),
            byte if is_space(byte) => Step::Pass(State::Data),
            _ => self.something_else(),
        }
    }

    /// In `<name`, with `<` and what came of the name held.
    fn name(&self, byte: u8) -> Step {
        let name = self.held.get(1..).unwrap_or_default();
        let equal = |name: &[u8], word: &[u8]| match self.syntax {
            Syntax::Html => name.eq_ignore_ascii_case(word),
            Syntax::Xml => name == word,
        };
        let attributes = match byte {
            b'>' | b'/' => Some(Attribute::BeforeName),
            byte if is_space(byte) => Some(Attribute::BeforeName),
            _ => None,
        };
        match attributes {
            Some(attribute) if equal(name, b"html") => self.attributes(Tag::Html, attribute, byte),
            Some(attribute) if equal(name, b"head") => self.attributes(Tag::Head, attribute, byte),
            Some(_) => self.something_else(),
            None => {
                let goes_on = |word: &[u8]| {
                    let so_far = word.get(..name.len()).is_some_and(|part| equal(name, part));
                    so_far && word.get(name.len()).is_some_and(|next| equal(&[byte], &[*next]))
                };
                match goes_on(b"html") || goes_on(b"head") {
                    true => Step::Hold(State::TagName),
                    false => self.something_else(),
                }
            }
        }
    }

    fn attributes(&self, tag: Tag, attribute: Attribute, byte: u8) -> Step {
        use Attribute as A;
        let space = is_space(byte);
        let next = match (attribute, byte) {
            (A::DoubleQuoted, b'"') | (A::SingleQuoted, b'\'') => A::BeforeName,
            (A::DoubleQuoted, _) => A::DoubleQuoted,
            (A::SingleQuoted, _) => A::SingleQuoted,
            (A::Slash, b'>') => return self.tag_ended(tag, true),
            (A::BeforeName | A::Name | A::AfterName | A::BeforeValue | A::Unquoted, b'>') => {
                return self.tag_ended(tag, false);
            }
            (A::BeforeName | A::Slash | A::Name | A::AfterName, b'/') => A::Slash,
            (A::Name | A::AfterName, b'=') => A::BeforeValue,
            (A::Name | A::AfterName, _) if space => A::AfterName,
            (A::BeforeName | A::Slash | A::Unquoted, _) if space => A::BeforeName,
            // Also `=`, which begins a name here.
            (A::BeforeName | A::Slash | A::Name | A::AfterName, _) => A::Name,
            (A::BeforeValue, b'"') => A::DoubleQuoted,
            (A::BeforeValue, b'\'') => A::SingleQuoted,
            (A::BeforeValue, _) if space => A::BeforeValue,
            (A::BeforeValue | A::Unquoted, _) => A::Unquoted,
        };
        Step::Pass(State::Attributes(tag, next))
    }

    fn tag_ended(&self, tag: Tag, closes_itself: bool) -> Step {
        match (tag, self.syntax) {
            (Tag::Html, Syntax::Html | Syntax::Xml) => Step::Pass(State::Data),
            // In HTML the slash means nothing.
            (Tag::Head, Syntax::Html) => Step::After,
            (Tag::Head, Syntax::Xml) if closes_itself => Step::Nowhere(Kept::NoHead),
            (Tag::Head, Syntax::Xml) => Step::After,
        }
    }

    fn bogus(&self, byte: u8) -> Step {
        match (byte, self.syntax) {
            (b'>', Syntax::Html | Syntax::Xml) => Step::Pass(State::Data),
            // A document type of its own, in which `>` ends nothing.
            (b'[', Syntax::Xml) => Step::Nowhere(Kept::NoHead),
            (_, Syntax::Html | Syntax::Xml) => Step::Pass(State::Bogus),
        }
    }

    fn something_else(&self) -> Step {
        match self.syntax {
            Syntax::Html => Step::Before,
            Syntax::Xml => Step::Nowhere(Kept::NoHead),
        }
    }
}

/// HTML Standard §13.2.5.43 to .52; `<!-->`, `<!--->` and `--!>` end one, too.
fn in_comment(comment: Comment, byte: u8) -> State {
    use Comment as C;
    State::Comment(match (comment, byte) {
        (C::Start | C::StartDash | C::End | C::EndBang, b'>') => return State::Data,
        (C::Start, b'-') => C::StartDash,
        (C::StartDash | C::Dash | C::End, b'-') => C::End,
        (C::Inside | C::EndBang, b'-') => C::Dash,
        (C::End, b'!') => C::EndBang,
        (C::Start | C::StartDash | C::Inside | C::Dash | C::End | C::EndBang, _) => C::Inside,
    })
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "<script></script>";

    /// Feeds these pieces and returns the page, and how the search ended.
    fn fed<'a>(syntax: Syntax, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Ended) {
        let (mut search, mut out, mut ended) = (Search::new(syntax), Vec::new(), None);
        for piece in pieces {
            match ended {
                None => ended = search.feed(piece, TAG.as_bytes(), &mut out),
                Some(_) => out.extend_from_slice(piece),
            }
        }
        let ended = ended.unwrap_or_else(|| search.finish(&mut out));
        (out, ended)
    }

    /// A `|` stands where the tag goes.
    const HTML: &[&str] = &[
        "<html><head>|<title>t</title></head><body>b",
        "<!doctype html>\n<html lang=en>\n<head>|\n<meta charset=utf-8>",
        "<HTML><HEAD>|<title>",
        "<head>|",
        "<head/>|<title>",
        "<head / >|<title>",
        "\u{feff}<!doctype html><head>|<title>",
        " \t\r\n\x0c<head>|",
        // No head: before what opens one.
        "<!doctype html>|<title>t</title>",
        "<html>|<body><head>",
        "<html>|<header><head>",
        "|<headline>",
        "|<hr>",
        "<!-- <head> -->|<h1>",
        "|<he ad>",
        "<html>|text<head>",
        "|\u{e9}t\u{e9}",
        "|</p><head>",
        "|<3 <head>",
        "|< head>",
        "|<>",
        "|\u{a0}<head>",
        "\u{feff}|\u{feff}<head>",
        "|<script>'<head>'</script>",
        "<html><html class=a>|<body>",
        // Attributes.
        "<head a=\"x>y\" b='<head>' c=>|<title>",
        "<head a=x\"y>|\">",
        "<head \"a>|b\">",
        "<head =\"a>|b\">",
        "<head a = \"x>y\">|<title>",
        "<head a=\"x\"b='>'/c=/>|<title>",
        "<head a='\"'>|'>",
        "<head a/=\"x>|\">",
        "<html data-a='<head>' b><head\n>|<title>",
        // Comments, and what is taken for one.
        "<!-- > -> -- --x --!x <head> --><head>|",
        "<!--><head>|-->",
        "<!---><head>|-->",
        "<!----><head>|",
        "<!-- --!><head>|-->",
        "<!-- <!-- --><head>| -->",
        "<!-- a ---><head>|",
        "<!-x><head>|",
        "<!><head>|",
        "<?xml version='1.0'?><head>|",
        "<![if !IE]><head>|<![endif]>",
        "<!--[if IE]><head><![endif]--><head>|",
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0//EN\" \"http://x/y.dtd\"><head>|",
        // A quote ends nothing there.
        "<!doctype html \"a><head>|\">",
    ];

    /// The same for XHTML.
    const XML: &[&str] = &[
        "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD\" \"http://x/y.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\">\n <!-- c --> <head>|<title/></head></html>",
        "\u{feff}<html><head profile='>'>|",
    ];

    /// What leaves as it came.
    const KEPT: &[(Syntax, &str, Kept)] = &[
        (Syntax::Html, "", Kept::Empty),
        (Syntax::Html, " <!doctype html><html><!-- c -->\n", Kept::Empty),
        (Syntax::Html, "<!-- <head>", Kept::Empty),
        (Syntax::Html, "<head a='>", Kept::Empty),
        (Syntax::Html, "<html>\n<hea", Kept::Empty),
        (Syntax::Html, "<\0!\0d\0", Kept::Charset),
        (Syntax::Html, "<!-- \0 --><head>", Kept::Charset),
        (Syntax::Xml, "<html/>", Kept::Empty),
        (Syntax::Xml, "<html><head/><body/></html>", Kept::NoHead),
        (Syntax::Xml, "<html><body/></html>", Kept::NoHead),
        (Syntax::Xml, "<HTML><HEAD>", Kept::NoHead),
        (Syntax::Xml, "<h:html xmlns:h='x'><h:head>", Kept::NoHead),
        (Syntax::Xml, "<!DOCTYPE html [<!ENTITY a '<head>'>]><html><head>", Kept::NoHead),
        (Syntax::Xml, "<html>text<head>", Kept::NoHead),
        (Syntax::Xml, "<\0h\0", Kept::Charset),
    ];

    /// Every page above: as it comes, as it goes, and why.
    fn pages() -> Vec<(Syntax, Vec<u8>, Vec<u8>, Ended)> {
        let inserted = |syntax, page: &&str| {
            let (page, expected) = page.split_once('|').expect("a place");
            let whole = [page, expected].concat();
            (syntax, whole.into_bytes(), [page, TAG, expected].concat().into(), Ended::Inserted)
        };
        let kept = |(syntax, page, kept): &(Syntax, &str, Kept)| {
            (*syntax, Vec::from(*page), Vec::from(*page), Ended::Kept(*kept))
        };
        let utf_16 = [b"\xff\xfe<\0h\0".to_vec(), b"\xfe\xff\0<\0h".to_vec()];
        let utf_16 =
            utf_16.map(|page| (Syntax::Html, page.clone(), page, Ended::Kept(Kept::Charset)));
        let html = HTML.iter().map(|page| inserted(Syntax::Html, page));
        let xml = XML.iter().map(|page| inserted(Syntax::Xml, page));
        html.chain(xml).chain(KEPT.iter().map(kept)).chain(utf_16).collect()
    }

    #[test]
    fn the_script_is_the_first_child_of_the_head_or_nowhere() {
        for (syntax, page, expected, end) in pages() {
            let (out, ended) = fed(syntax, std::iter::once(page.as_slice()));
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
            assert_eq!(ended, end, "{}", String::from_utf8_lossy(&page));
        }
    }

    #[test]
    fn how_a_page_is_cut_into_pieces_makes_no_difference() {
        for (syntax, page, expected, end) in pages() {
            let expected = (expected, end);
            assert_eq!(fed(syntax, page.chunks(1)), expected, "{page:?}");
            for first in 0..=page.len() {
                let (head, rest) = page.split_at(first);
                for second in 0..=rest.len() {
                    let (middle, tail) = rest.split_at(second);
                    let cut = fed(syntax, [head, middle, tail].into_iter());
                    assert_eq!(cut, expected, "{page:?} at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn no_more_than_a_name_is_held_back() {
        for (syntax, page, _, _) in pages() {
            let (mut search, mut out) = (Search::new(syntax), Vec::new());
            for byte in page.chunks(1) {
                if search.feed(byte, b"", &mut out).is_some() {
                    break;
                }
                assert!(search.held.len() <= b"<head".len(), "{page:?}");
            }
        }
    }

    #[test]
    fn a_head_beyond_the_limit_is_not_looked_for() {
        let page = |filling: usize| format!("<!--{}--><head>", "x".repeat(filling)).into_bytes();
        let fits = LOOKED_AT_MAX - page(0).len();
        for cut in [1, 100, LOOKED_AT_MAX, LOOKED_AT_MAX * 2] {
            assert_eq!(fed(Syntax::Html, page(fits).chunks(cut)).1, Ended::Inserted, "{cut}");
            let long = page(fits + 1);
            assert_eq!(
                fed(Syntax::Html, long.chunks(cut)),
                (long.clone(), Ended::Kept(Kept::TooFar))
            );
        }
    }
}
