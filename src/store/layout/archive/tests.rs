mod readers;
pub(crate) mod sample;
