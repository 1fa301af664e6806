//! The first word with a host: who says it, by which of the host's addresses, and what all others wait for.

use reqwest::{Response, Url};
use tokio::sync::watch;

use super::error::{Error, Kind};
use super::exchange::{Ask, Peer};
use super::retry::Patience;
use super::transport::NO_TLS;

/// What is known of a host's being there. The first request finds out, alone; all others wait for it, so that a
/// challenge is answered once and a dead host is waited for once.
#[derive(Debug, Clone)]
pub(super) enum Contact {
    Unknown,
    Trying,
    Known(Url),
    Down(Error),
}

/// Whose turn it is.
enum Turn<'a> {
    Known(Url),
    First(FirstContact<'a>),
}

/// Being the first to talk to a host. Dropped without a result, the next one is first.
struct FirstContact<'a>(&'a watch::Sender<Contact>);

impl Drop for FirstContact<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|contact| {
            let trying = matches!(contact, Contact::Trying);
            if trying {
                *contact = Contact::Unknown;
            }
            trying
        });
    }
}

impl Peer {
    /// Makes the request once. Only the very first request to a host uses `patience`, because all others wait
    /// for its outcome.
    pub(super) async fn ask_once(&self, ask: &Ask<'_>, patience: &mut Patience) -> Result<Response, Error> {
        // A host that is down says so for all; what each of them was doing is its own.
        let turn = self.turn().await.map_err(|error| Error { doing: ask.doing.clone(), ..error })?;
        match turn {
            Turn::Known(base) => self.exchange(&base, ask).await,
            Turn::First(first) => self.first_exchange(first, ask, patience).await,
        }
    }

    /// Waits until it is known whether the host is there, or until it is our turn to find out.
    async fn turn(&self) -> Result<Turn<'_>, Error> {
        let mut changes = self.contact.subscribe();
        loop {
            let became_first = self.contact.send_if_modified(|contact| {
                let first = matches!(contact, Contact::Unknown);
                if first {
                    *contact = Contact::Trying;
                }
                first
            });
            if became_first {
                return Ok(Turn::First(FirstContact(&self.contact)));
            }
            let contact = changes.borrow_and_update().clone();
            match contact {
                Contact::Known(base) => return Ok(Turn::Known(base)),
                Contact::Down(error) => return Err(error),
                Contact::Unknown | Contact::Trying => {
                    // The sender lives in self: this cannot fail.
                    let _ = changes.changed().await;
                }
            }
        }
    }

    async fn first_exchange(
        &self,
        first: FirstContact<'_>,
        ask: &Ask<'_>,
        patience: &mut Patience,
    ) -> Result<Response, Error> {
        loop {
            let error = match self.try_bases(&first, ask).await {
                Ok(response) => return Ok(response),
                // Whatever the answer is, it is one: the host is there.
                Err(error) if error.status.is_some() => return Err(error),
                Err(error) => error,
            };
            match patience.next(&error.kind, self.is_alive()) {
                Some(pause) => self.rest(pause, &error).await,
                None => {
                    first.0.send_replace(Contact::Down(error.clone()));
                    return Err(error);
                }
            }
        }
    }

    async fn try_bases(&self, first: &FirstContact<'_>, ask: &Ask<'_>) -> Result<Response, Error> {
        let mut trouble = None;
        let bases = self.answered.get().map_or(&self.bases[..], std::slice::from_ref);
        for base in bases {
            let result = self.exchange(base, ask).await;
            match result {
                Err(error) if error.status.is_none() => {
                    let speaks_no_tls = self.answered.get().is_none()
                        && error.kind == Kind::Untrusted
                        && error.why.contains(NO_TLS);
                    // Only a host that answers without TLS is asked without it; no other trouble is a reason to, such
                    // as a token service without TLS. What then goes wrong without TLS may pass.
                    if !speaks_no_tls {
                        return Err(error);
                    }
                    trouble = Some(error);
                }
                answered => {
                    first.0.send_replace(Contact::Known(base.clone()));
                    return answered;
                }
            }
        }
        Err(trouble.expect("there is at least one base, and it either answered or failed"))
    }
}
