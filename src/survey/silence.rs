//! Hosts that answer nothing, which must not cost their time for each image.

use std::sync::Mutex;

use crate::error::{Cause, Error};

/// Questions in a row that get no answer, each as often as it is asked, until a host is given up.
const UNANSWERED_MAX: u32 = 3;

/// What a host is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Digest,
    Manifest,
}

/// How often a host has left questions unanswered, one after the other. Each kind counts by itself: one that says what it
/// has may still give nothing of it.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    digests: u32,
    manifests: u32,
    gave_up: Option<Error>,
}

impl Silence {
    /// Why the host is asked nothing any more.
    pub(super) fn gave_up(&self) -> Option<Error> {
        self.0.lock().expect("no code panics while it holds this lock").gave_up.clone()
    }

    /// Notes what came of a question.
    pub(super) fn note<T>(&self, ask: Ask, answer: &Result<T, Error>) {
        let mut state = self.0.lock().expect("no code panics while it holds this lock");
        let count = match ask {
            Ask::Digest => &mut state.digests,
            Ask::Manifest => &mut state.manifests,
        };
        let Some(error) = answer.as_ref().err().filter(|error| is_silence(error)) else {
            *count = 0;
            return;
        };
        *count += 1;
        if *count >= UNANSWERED_MAX && state.gave_up.is_none() {
            tracing::warn!("{} does not answer: it is asked nothing more", error.place);
            state.gave_up = Some(error.clone());
        }
    }
}

/// Whether nothing was heard of the host, so that any other question would have ended like this one.
fn is_silence(error: &Error) -> bool {
    error.is_out_of_reach() || matches!(error.cause, Cause::NoAnswer(_))
}
