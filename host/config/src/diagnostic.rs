//! Errors in the configuration file: position, message and advice.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A position in a file; line and column start at 1, columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// File name as given by the caller.
    pub file: Arc<str>,
    /// Line number in the file.
    pub line: usize,
    /// Column in characters within the line.
    pub column: usize,
}

impl Position {
    /// Returns the position of the byte `offset` in `text`.
    pub(crate) fn at_offset(file: &Arc<str>, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).map_or(0, |part| part.chars().count()) + 1;
        Self { file: Arc::clone(file), line, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// An error in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Start of the faulty text.
    pub position: Position,
    /// Description of the error in a single line.
    pub message: String,
    /// Suggested correction in a single line.
    pub advice: Option<String>,
    pub(crate) span: Range<usize>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: error: {}", self.position, self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "\n  help: {advice}"),
            None => Ok(()),
        }
    }
}

/// All errors of a file, sorted by position; never empty.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    text: Arc<str>,
    diagnostics: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(text: Arc<str>, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|m| (m.span.start, m.span.end));
        Self { text, diagnostics: list }
    }

    /// Returns the errors, sorted by position.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Renders the errors for a terminal: `file:line:column: error:`, the source line and the advice.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for mistake in &self.diagnostics {
            let source = Snippet::source(&*self.text)
                .annotation(AnnotationKind::Primary.span(mistake.span.clone()).highlight_source(false));
            let mut group = Group::with_level(Level::ERROR).element(source);
            if let Some(advice) = &mistake.advice {
                group = group.element(Level::HELP.message(advice));
            }
            out.push_str(&format!("{}: error: {}\n{}\n", mistake.position, mistake.message, renderer.render(&[group])));
        }
        let count = self.diagnostics.len();
        out.push_str(&format!("{count} {} in the configuration\n", if count == 1 { "mistake" } else { "mistakes" }));
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for mistake in &self.diagnostics {
            write!(f, "{}{mistake}", if first { "" } else { "\n" })?;
            first = false;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
