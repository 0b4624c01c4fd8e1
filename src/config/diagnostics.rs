//! Reports as text: `file:line:column`, the line with a marker, what was expected, and a count.
//!
//! No line is shown with a value that may be secret: such values are replaced by asterisks before
//! the renderer sees the line. Where the text cannot be read as YAML nothing is known about its
//! values, and everything after a colon is replaced.

use std::collections::BTreeSet;
use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::place::{self, Place};
use super::reports::{Report, Reports, Severity};
use super::tree::NodeId;

/// Secret values of one configuration that are looked for in shown lines; over it no line is shown.
const HIDDEN_MAX: usize = 256;

/// One file as it was read.
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Errors and warnings about a configuration, in the order of the files.
///
/// `Display` is plain text, for a terminal see [`Diagnostics::render`].
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// Names of the files; their text may hold secrets and is not kept.
    names: Vec<String>,
    shown: Vec<Shown>,
    dropped: usize,
    stopped: bool,
}

#[derive(Clone, Debug)]
struct Shown {
    severity: Severity,
    file: usize,
    place: Option<Place>,
    /// The line at `place`, secrets replaced.
    line: Option<String>,
    title: String,
    expected: Option<String>,
    help: Option<String>,
}

impl Diagnostics {
    pub fn new(files: Vec<Source>, reports: Reports) -> Diagnostics {
        let masks = masks(&files, &reports.hidden);
        let mut shown: Vec<Shown> =
            reports.list.into_iter().map(|report| show(&files, masks.as_deref(), report)).collect();
        shown.sort_by_key(|shown| (shown.file, shown.place));
        Diagnostics {
            names: names(&files),
            shown,
            dropped: reports.dropped,
            stopped: reports.stopped,
        }
    }

    /// One error that hinders all further reading; the line is shown without values.
    pub fn unreadable(files: &[Source], what: String, place: Option<Place>) -> Diagnostics {
        let file = files.len().saturating_sub(1);
        let line = files.last().zip(place).and_then(|(source, place)| {
            let line = place::line_of(&source.text, place)?;
            let values = line.find(':').map_or(0, |colon| colon + 1);
            Some(line.char_indices().map(|(at, c)| hide_char(at >= values, c)).collect())
        });
        let shown = Shown {
            severity: Severity::Error,
            file,
            place,
            line,
            title: what,
            expected: None,
            help: None,
        };
        Diagnostics { names: names(files), shown: vec![shown], dropped: 0, stopped: false }
    }

    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error) + self.dropped
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// As text; `colour` adds ANSI sequences.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for shown in &self.shown {
            text.push_str(&renderer.render(&[self.group(shown)]));
            text.push_str("\n\n");
        }
        if self.dropped > 0 {
            text.push_str(&format!("and {} more that are not shown\n", self.dropped));
        }
        if self.stopped {
            text.push_str("so many that reading stopped here: there may be more\n");
        }
        text.push_str(&self.total());
        text
    }

    fn count(&self, severity: Severity) -> usize {
        self.shown.iter().filter(|shown| shown.severity == severity).count()
    }

    fn total(&self) -> String {
        let some = |n: usize, what: &str| match n {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}s")),
        };
        let parts = [some(self.errors(), "error"), some(self.warnings(), "warning")];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { String::new() } else { parts.join(", ") + "\n" }
    }

    fn group<'a>(&'a self, shown: &'a Shown) -> Group<'a> {
        let level = match shown.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let name = self.names.get(shown.file).map_or("", String::as_str);
        let mut group = Group::with_title(level.primary_title(&shown.title));
        group = match (shown.place, &shown.line) {
            (Some(place), Some(line)) => {
                group.element(snippet(name, place, line, shown.expected.as_deref()))
            }
            (Some(place), None) => {
                group.element(Origin::path(name).line(place.line).char_column(place.column))
            }
            (None, _) => group.element(Origin::path(name)),
        };
        if shown.line.is_none()
            && let Some(expected) = &shown.expected
        {
            group = group.element(Level::NOTE.message(expected));
        }
        match &shown.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

fn snippet<'a>(
    name: &'a str,
    place: Place,
    line: &'a str,
    expected: Option<&'a str>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let start = byte_of(line, place.column);
    let token = place::token_bytes(line.get(start..).unwrap_or_default());
    let marker = AnnotationKind::Primary.span(start..start + token).label(expected);
    Snippet::source(line).path(name).line_start(place.line).annotation(marker)
}

fn names(files: &[Source]) -> Vec<String> {
    files.iter().map(|file| file.name.clone()).collect()
}

fn show(files: &[Source], masks: Option<&[Mask]>, report: Report) -> Shown {
    let file = report.node.map_or(0, |node| usize::from(node.file));
    let source = files.get(file);
    let place =
        report.node.zip(source).and_then(|(node, source)| place::find(&source.text, node.n));
    let line = source.zip(place).zip(masks).and_then(|((source, place), masks)| {
        let line = place::line_of(&source.text, place)?;
        Some(masked(line, file, place.line, masks))
    });
    let what = report.problem.what;
    let title = if report.path.is_empty() { what } else { format!("{}: {what}", report.path) };
    Shown {
        severity: report.problem.severity,
        file,
        place,
        line,
        title,
        expected: report.problem.expected,
        help: report.problem.help,
    }
}

/// From a hidden value's first character to the place of what was read next.
#[derive(Clone, Copy)]
struct Mask {
    file: usize,
    from: Place,
    /// `None`: the end of its line, or of the file.
    next: Option<Place>,
}

/// `None` if there are too many to look for.
fn masks(files: &[Source], hidden: &BTreeSet<NodeId>) -> Option<Vec<Mask>> {
    if hidden.len() > HIDDEN_MAX {
        return None;
    }
    let mask = |node: &NodeId| {
        let file = usize::from(node.file);
        let text = &files.get(file)?.text;
        let from = place::find(text, node.n)?;
        let next = place::find(text, node.n + 1).filter(|next| *next > from);
        Some(Mask { file, from, next })
    };
    Some(hidden.iter().filter_map(mask).collect())
}

fn masked(line: &str, file: usize, number: usize, masks: &[Mask]) -> String {
    let mut hide = vec![false; line.chars().count()];
    for mask in masks.iter().filter(|mask| mask.file == file && mask.from.line <= number) {
        // On a line that follows, what opens an item is not part of the value.
        let opening = || line.chars().take_while(|c| " -?[{".contains(*c)).count();
        let from = if mask.from.line == number { mask.from.column - 1 } else { opening() };
        let to = match mask.next {
            Some(next) if next.line < number => continue,
            Some(next) if next.line == number => next.column - 1,
            Some(_) | None => hide.len(),
        };
        hide.iter_mut().take(to).skip(from).for_each(|hidden| *hidden = true);
    }
    line.chars().zip(hide).map(|(c, hidden)| hide_char(hidden, c)).collect()
}

fn hide_char(hidden: bool, c: char) -> char {
    if hidden && !c.is_whitespace() { '*' } else { c }
}

fn byte_of(line: &str, column: usize) -> usize {
    line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at)
}
