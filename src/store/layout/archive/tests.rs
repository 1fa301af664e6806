pub(crate) mod hand;
mod readers;
pub(crate) mod sample;
