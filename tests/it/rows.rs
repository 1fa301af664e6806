//! The reliability specification, a test for each of its rows, named with the row's id.

mod attacks;
mod contents;
mod downloads;
pub(crate) mod engine;
mod foreign;
mod hosts;
mod interruptions;
mod limits;
mod mounts;
mod personas;
mod pieces;
mod referrers;
mod retries;
mod uploads;
mod whole_run;
