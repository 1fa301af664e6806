//! The test support is code too, and has to be right before anything is judged by it.

mod content;
mod faults;
mod personas;
mod real;
mod registry;
