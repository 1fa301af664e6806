//! The test support is code too, and has to be right before anything is judged by it.

mod content;
mod real;
mod registry;
