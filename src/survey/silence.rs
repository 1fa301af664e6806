//! Hosts that answer nothing, or nothing but that they are asked too much, which must not cost their time for each image.

use std::sync::Mutex;

use crate::error::{Cause, Error, Kind};

/// Questions in a row that get no answer, each as often as it is asked, until a host is given up.
const UNANSWERED_MAX: u32 = 3;

/// What a host is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Digest,
    Manifest,
}

/// How often a host has left questions unanswered, or refused them for its load, one after the other. Each kind counts by itself: one that says what it
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
        let Some((error, what)) = answer.as_ref().err().and_then(|error| Some((error, silence(error)?)))
        else {
            *count = 0;
            return;
        };
        *count += 1;
        if *count >= UNANSWERED_MAX && state.gave_up.is_none() {
            tracing::warn!("{} {what}: it is asked nothing more", error.place);
            state.gave_up = Some(error.clone());
        }
    }
}

/// What the host does, where any other question would have ended like this one.
fn silence(error: &Error) -> Option<&'static str> {
    if matches!(error.kind, Kind::RateLimited(_) | Kind::Busy) {
        return Some("refuses each request as one too many");
    }
    (error.is_out_of_reach() || matches!(error.cause, Cause::NoAnswer(_))).then_some("does not answer")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::Side;

    fn error(kind: Kind) -> Error {
        let (side, place, action, redactor) =
            (Side::Source, "h.io".to_owned(), "HEAD".to_owned(), Arc::default());
        Error {
            side,
            kind,
            place,
            action,
            cause: "no".to_owned().into(),
            remedy: None,
            status: None,
            redactor,
        }
    }

    #[test]
    fn a_host_that_refuses_three_in_a_row_for_its_load_is_given_up() {
        let kinds = [Kind::RateLimited(None), Kind::Busy, Kind::RateLimited(None)];
        let silence = Silence::default();
        for kind in &kinds {
            assert!(silence.gave_up().is_none());
            silence.note::<()>(Ask::Digest, &Err(error(kind.clone())));
        }
        assert_eq!(silence.gave_up().map(|error| error.kind), Some(Kind::RateLimited(None)));

        let silence = Silence::default();
        for kind in kinds.iter().chain(&kinds) {
            silence.note::<()>(Ask::Digest, &Err(error(kind.clone())));
            silence.note::<()>(Ask::Digest, &Err(error(Kind::NotFound)));
        }
        assert!(silence.gave_up().is_none(), "it answers in between");
    }
}
