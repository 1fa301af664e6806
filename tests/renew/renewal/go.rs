//! Go source, as far as a table of constants needs it: tokens, declarations, texts known before the program runs.

mod declarations;
mod lexer;
mod switch;
mod texts;

pub use declarations::{declarations, items, within};
pub use lexer::{Kind, Token, tokens};
pub use switch::{Case, cases};
pub use texts::Texts;

use thiserror::Error;

/// A place in a Go file that is not as it is known to be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {why}")]
pub struct Unknown {
    /// Counted from one.
    pub line: usize,
    pub why: String,
}

impl Unknown {
    pub fn new(line: usize, why: impl Into<String>) -> Self {
        Self { line, why: why.into() }
    }
}
