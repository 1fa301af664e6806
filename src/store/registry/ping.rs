//! The first word with a host: who says it, by which of the host's addresses, and what all others wait for.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Response, Url};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Registry;
use super::client::Call;
use super::retry::{Attempt, Rule};
use crate::error::{Cause, Error, Kind};
use crate::store::patience::Patience;

/// Requests without any answer, one after the other, until all others no longer wait for their turn.
const UNANSWERED_MAX: u32 = 3;

/// An answer to the first word that takes longer is not waited for alone: another request is made beside it.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What is known of a host's being there. The first request finds out, alone; all others wait for it, so that a
/// challenge is answered once and a dead host is waited for once. Where its answer takes long it may be this request
/// that is slow, and not the host: a few others are made beside it, one after the other.
#[derive(Debug, Clone)]
enum Contact {
    /// So many requests got no answer over connections that came about, which says more of them than of the host.
    Unknown(u32),
    Trying(Trying),
    /// It takes connections and answers nothing: each request is on its own.
    Mute,
    Known(Url),
    Down(Error),
}

/// Requests whose answers all others wait for.
#[derive(Debug, Clone, Copy)]
struct Trying {
    unanswered: u32,
    under_way: u32,
    /// When the last of them was begun.
    since: Instant,
}

impl Trying {
    /// When another request may be made beside these.
    fn due(self) -> Option<Instant> {
        (self.under_way < UNANSWERED_MAX).then(|| self.since + ANSWER_MAX)
    }

    fn and_another(self, now: Instant) -> Option<Self> {
        let is_due = self.due().is_some_and(|due| due <= now);
        is_due.then(|| Self { under_way: self.under_way + 1, since: now, ..self })
    }

    /// What remains when one of them has ended, and so many got no answer.
    fn without_one(self, unanswered: u32) -> Contact {
        match self.under_way - 1 {
            _ if unanswered >= UNANSWERED_MAX => Contact::Mute,
            0 => Contact::Unknown(unanswered),
            under_way => Contact::Trying(Self { unanswered, under_way, ..self }),
        }
    }
}

/// Whether a host is there, and by which address.
#[derive(Debug)]
pub(super) struct Ping {
    contact: watch::Sender<Contact>,
    /// The address by which it has answered something, so that how to reach it is settled.
    answered: OnceLock<Url>,
}

impl Default for Ping {
    fn default() -> Self {
        Self { contact: watch::Sender::new(Contact::Unknown(0)), answered: OnceLock::new() }
    }
}

/// Whose turn it is.
enum Turn<'a> {
    Known(Url),
    First(First<'a>),
    Alone,
}

/// Being the first to talk to a host, or one of them. Dropped without a result, the next one is first.
struct First<'a> {
    contact: &'a watch::Sender<Contact>,
    has_ended: bool,
}

impl<'a> First<'a> {
    fn new(contact: &'a watch::Sender<Contact>) -> Self {
        Self { contact, has_ended: false }
    }

    fn gave_up(mut self, error: &Error) {
        self.end(|_| Contact::Down(error.clone()));
    }

    /// Got no answer: the next one may.
    fn hand_on(mut self) {
        self.end(|trying| trying.without_one(trying.unanswered + 1));
    }

    /// Ends the turn, unless an answer to whomever has ended it.
    fn end(&mut self, next: impl FnOnce(Trying) -> Contact) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.contact.send_if_modified(|contact| {
            let Contact::Trying(trying) = *contact else { return false };
            *contact = next(trying);
            true
        });
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.end(|trying| trying.without_one(trying.unanswered));
    }
}

impl Ping {
    /// The address by which the host is spoken to, once that is known.
    pub(super) fn base(&self) -> Option<Url> {
        match &*self.contact.borrow() {
            Contact::Known(base) => Some(base.clone()),
            Contact::Unknown(_) | Contact::Trying(_) | Contact::Mute | Contact::Down(_) => None,
        }
    }

    /// Notes that the host has answered by `base`, which settles how to reach it.
    pub(super) fn note_answer(&self, base: &Url) {
        let _ = self.answered.set(base.clone());
    }

    /// Notes that it has answered something, a redirect too, that is no challenge: nobody need wait any more.
    pub(super) fn note_word(&self, base: &Url) {
        self.contact.send_if_modified(|contact| {
            let news = !matches!(contact, Contact::Known(_));
            if news {
                *contact = Contact::Known(base.clone());
            }
            news
        });
    }

    fn is_known(&self) -> bool {
        matches!(*self.contact.borrow(), Contact::Known(_))
    }

    /// Waits until it is known whether the host is there, or until it is our turn to find out.
    ///
    /// # Errors
    /// The host is down, as whoever was first has found out.
    async fn turn(&self) -> Result<Turn<'_>, Error> {
        let mut changes = self.contact.subscribe();
        loop {
            let now = Instant::now();
            let became_first = self.contact.send_if_modified(|contact| {
                let trying = match contact {
                    Contact::Unknown(unanswered) => {
                        Some(Trying { unanswered: *unanswered, under_way: 1, since: now })
                    }
                    Contact::Trying(trying) => trying.and_another(now),
                    Contact::Known(_) | Contact::Mute | Contact::Down(_) => None,
                };
                let Some(trying) = trying else { return false };
                *contact = Contact::Trying(trying);
                true
            });
            if became_first {
                return Ok(Turn::First(First::new(&self.contact)));
            }
            let contact = changes.borrow_and_update().clone();
            // The sender lives in self: to wait for a change cannot fail.
            match contact {
                Contact::Known(base) => return Ok(Turn::Known(base)),
                Contact::Mute => return Ok(Turn::Alone),
                Contact::Down(error) => return Err(error),
                Contact::Unknown(_) => _ = changes.changed().await,
                Contact::Trying(trying) => match trying.due() {
                    Some(due) => _ = timeout_at(due, changes.changed()).await,
                    None => _ = changes.changed().await,
                },
            }
        }
    }

    /// Waits until another request has found the host to be down, and says why.
    async fn down(&self) -> Error {
        let mut changes = self.contact.subscribe();
        loop {
            if let Contact::Down(error) = &*changes.borrow_and_update() {
                return error.clone();
            }
            // The sender lives in self: this cannot fail.
            let _ = changes.changed().await;
        }
    }
}

/// The first request to a host.
struct FirstWord<'a> {
    registry: &'a Registry,
    call: &'a Call<'a>,
}

impl Attempt for FirstWord<'_> {
    type Done = Response;
    const RULE: Rule = Rule::Ping;

    async fn make(&mut self, _: &mut Patience) -> Result<Response, Error> {
        self.registry.try_bases(self.call).await
    }
}

impl Registry {
    /// Makes the request once. Only the very first request to a host uses `patience`, and only for what says that the
    /// host is not there, because all others wait for that.
    pub(super) async fn try_once(&self, call: &Call<'_>, patience: &mut Patience) -> Result<Response, Error> {
        // A host that is down says so for all; what each of them was doing is its own.
        let of_this = |error| Error { action: call.action.clone(), ..error };
        let turn = self.ping.turn().await.map_err(of_this)?;
        let first = match turn {
            Turn::Known(base) => return self.exchange(&base, call).await,
            Turn::Alone => return self.try_bases(call).await,
            Turn::First(first) => first,
        };
        let result = tokio::select! {
            biased;
            result = self.retry(patience, FirstWord { registry: self, call }) => result,
            error = self.ping.down() => Err(of_this(error)),
        };
        if let Err(error) = &result
            && !self.ping.is_known()
        {
            if error.is_out_of_reach() {
                first.gave_up(error);
            } else {
                first.hand_on();
            }
        }
        result
    }

    async fn try_bases(&self, call: &Call<'_>) -> Result<Response, Error> {
        let answered = self.ping.answered.get();
        let mut trouble = None;
        for base in answered.map_or(self.addresses.bases(), std::slice::from_ref) {
            match self.exchange(base, call).await {
                // Only a host that answers without TLS is asked without it; no other trouble is a reason to, such as a
                // token service without TLS. What then goes wrong without TLS may pass. Another request may have got its
                // answer meanwhile; if not by this address, it is no reason to fail here.
                Err(error) if speaks_no_tls(&error) && self.ping.answered.get() != Some(base) => {
                    trouble = Some(error);
                }
                Err(error) if error.status.is_none() => return Err(error),
                answered => {
                    self.ping.note_word(base);
                    return answered;
                }
            }
        }
        Err(trouble.expect("there is at least one base, and it either answered or failed"))
    }
}

/// Whether the host itself, and nobody on the way to it, answers without TLS.
fn speaks_no_tls(error: &Error) -> bool {
    error.status.is_none() && error.kind == Kind::Untrusted && matches!(error.cause, Cause::NoTls)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;
    use crate::error::Side;
    use crate::image::reference::{Algorithm, Digest};
    use crate::store::registry::{Held, Scheme};

    fn down() -> Error {
        Error {
            side: Side::Source,
            kind: Kind::Unreachable,
            place: "r.example.com".to_owned(),
            action: "GET".to_owned(),
            cause: "it is down".into(),
            remedy: None,
            status: None,
            redactor: std::sync::Arc::default(),
        }
    }

    async fn first(ping: &Ping) -> First<'_> {
        let soon = Instant::now() + 9 * ANSWER_MAX;
        match timeout_at(soon, ping.turn()).await.expect("its turn comes") {
            Ok(Turn::First(first)) => first,
            Ok(Turn::Known(base)) => panic!("known at {base}"),
            Ok(Turn::Alone) => panic!("mute"),
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn all_others_wait_for_the_first_and_hear_what_it_has_found() {
        let (ping, base) = (Ping::default(), Url::parse("https://r.example.com/").unwrap());
        let one = first(&ping).await;
        assert_eq!(ping.base(), None);
        let find = async { ping.note_word(&base) };
        let (another, ()) = tokio::join!(ping.turn(), find);
        assert!(matches!(another, Ok(Turn::Known(found)) if found == base));
        drop(one);
        assert_eq!(ping.base(), Some(base));
    }

    #[tokio::test]
    async fn a_host_that_is_down_is_down_for_all() {
        let ping = Ping::default();
        first(&ping).await.gave_up(&down());
        assert!(matches!(ping.turn().await, Err(error) if error.kind == Kind::Unreachable));
    }

    #[tokio::test]
    async fn who_gets_no_answer_hands_the_turn_on_and_at_last_nobody_waits_for_a_turn() {
        let ping = Ping::default();
        for _ in 0..UNANSWERED_MAX {
            first(&ping).await.hand_on();
        }
        assert!(matches!(ping.turn().await, Ok(Turn::Alone)));
        let base = Url::parse("https://r.example.com/").unwrap();
        ping.note_word(&base);
        assert!(matches!(ping.turn().await, Ok(Turn::Known(_))));
    }

    #[tokio::test]
    async fn a_host_that_has_answered_is_not_down_for_what_its_answer_led_to() {
        let (ping, base) = (Ping::default(), Url::parse("https://r.example.com/").unwrap());
        let one = first(&ping).await;
        ping.note_word(&base);
        one.gave_up(&down());
        assert!(ping.is_known());
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_word_that_gets_no_answer_for_long_lets_few_others_speak_beside_it() {
        let ping = Ping::default();
        let began = Instant::now();
        let mut speaking = Vec::new();
        for _ in 0..UNANSWERED_MAX {
            speaking.push(first(&ping).await);
        }
        assert_eq!(began.elapsed(), 2 * ANSWER_MAX);
        assert!(timeout_at(Instant::now() + 9 * ANSWER_MAX, ping.turn()).await.is_err());
        // Whoever ends without an answer is followed by another; one that is cancelled counts as none.
        speaking.remove(0).hand_on();
        let next = first(&ping).await;
        drop((next, speaking));
        first(&ping).await.hand_on();
        first(&ping).await.hand_on();
        assert!(matches!(ping.turn().await, Ok(Turn::Alone)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_of_them_finds_is_told_to_all() {
        let ping = Ping::default();
        let (one, _another) = (first(&ping).await, first(&ping).await);
        let find = async { one.gave_up(&down()) };
        let (heard, turn, ()) = tokio::join!(ping.down(), ping.turn(), find);
        assert_eq!(heard.kind, Kind::Unreachable);
        assert!(matches!(turn, Err(error) if error.kind == Kind::Unreachable));
    }

    #[tokio::test]
    async fn the_next_one_is_first_where_the_first_was_cancelled() {
        let ping = Ping::default();
        let one = first(&ping).await;
        let cancel = async { drop(one) };
        let (another, ()) = tokio::join!(ping.turn(), cancel);
        assert!(matches!(another, Ok(Turn::First(_))));
    }

    /// Answers plain HTTP well, and TLS without it; the first that tries TLS hears so once told to.
    async fn without_tls(listener: TcpListener, has_come: Arc<Notify>, may_end: Arc<Notify>) {
        let (answer, mut seen) = ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", 0);
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 8192];
            let Ok(1..) = stream.read(&mut head).await else { continue };
            let is_tls = head[0] == 0x16;
            seen += usize::from(is_tls);
            let waits = (is_tls && seen == 1).then(|| (has_come.clone(), may_end.clone()));
            tokio::spawn(async move {
                if let Some((has_come, may_end)) = waits {
                    has_come.notify_one();
                    may_end.notified().await;
                }
                let refusal = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
                stream.write_all(if is_tls { refusal } else { answer }.as_bytes()).await
            });
        }
    }

    #[tokio::test]
    async fn a_host_that_answers_another_request_without_tls_meanwhile_is_asked_without_it_here_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (has_come, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        tokio::spawn(without_tls(listener, has_come.clone(), may_end.clone()));
        let registry = Registry::for_test(Side::Source, &host, Scheme::Https, 0);
        for _ in 0..UNANSWERED_MAX {
            first(&registry.ping).await.hand_on();
        }
        let digest = Digest::of(Algorithm::Sha256, b"");
        let repository = "a/b".parse().unwrap();
        let slow = registry.held_blob(&repository, &digest);
        let quick = async {
            has_come.notified().await;
            let held = registry.held_blob(&repository, &digest).await;
            may_end.notify_one();
            held
        };
        let (slow, quick) = tokio::join!(slow, quick);
        assert_eq!((slow.unwrap(), quick.unwrap()), (Held::Bytes(7), Held::Bytes(7)));
    }

    #[test]
    fn only_a_host_that_answers_without_tls_is_spoken_to_without() {
        let no_tls = Error { kind: Kind::Untrusted, cause: Cause::NoTls, ..down() };
        assert!(speaks_no_tls(&no_tls));
        let proxy = Error { kind: Kind::Invalid, ..no_tls.clone() };
        let certificate = Error { cause: Cause::Certificate("expired".to_owned()), ..no_tls };
        assert!(!speaks_no_tls(&proxy) && !speaks_no_tls(&certificate) && !speaks_no_tls(&down()));
    }
}
