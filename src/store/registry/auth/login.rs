//! What to show a host, and what follows when it is not enough. One path for all requests: of the registry, of upload
//! sessions, and of token services.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as Turns, MutexGuard as Turn};

use super::challenge::{Challenge, Useless};
use super::token::{Scopes, TokenCell, Tokens};
use crate::error::{Error, Side};
use crate::image::reference::{Host, Repository};
use crate::store::registry::credentials::{HelperError, Keyring, Login, Secret};
use crate::store::registry::lock;

/// What was sent as `Authorization`, to know what to make of a 401.
pub(in crate::store::registry) enum Proof {
    Nothing,
    Login(Secret, Login),
    Token(Secret, TokenCell),
}

impl Proof {
    pub(crate) fn header(&self) -> Option<&Secret> {
        match self {
            Proof::Nothing => None,
            Proof::Login(secret, _) | Proof::Token(secret, _) => Some(secret),
        }
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        match self {
            Proof::Login(_, login) => Some(login),
            Proof::Nothing | Proof::Token(..) => None,
        }
    }
}

/// How often one request was made again to be let in.
#[derive(Debug, Default)]
pub(in crate::store::registry) struct Introduction {
    /// It has shown something, or gone on without.
    introduced: bool,
    /// It has shown a second token.
    renewed: bool,
    /// How many tokens have run out before they were shown, as happens where a host lets requests wait.
    outlived: u32,
}

/// Most tokens of one request that may run out before they are shown.
const OUTLIVED_MAX: u32 = 20;

impl Introduction {
    /// Of a request that renews no token, if that is so.
    pub(crate) fn with_one_token(one_token: bool) -> Self {
        Self { introduced: false, renewed: one_token, outlived: 0 }
    }

    /// Whether another token may be shown after this one was refused. One that has run out says nothing of the next.
    fn may_renew(&mut self, spent: &TokenCell) -> bool {
        let is_old = spent.get().is_some_and(|token| !token.is_fresh());
        if is_old && self.outlived < OUTLIVED_MAX {
            self.outlived += 1;
            return true;
        }
        !std::mem::replace(&mut self.renewed, true)
    }
}

/// How often a target refuses a login that has opened nothing yet until it is given up. A few repositories may be kept
/// from everybody, and a wrong password that is shown more often locks accounts.
const REFUSALS_MAX: usize = 4;

/// What one host has taught so far about getting in.
#[derive(Debug)]
pub(in crate::store::registry) struct Authenticator {
    side: Side,
    host: Host,
    keyring: Arc<Keyring>,
    challenge: Mutex<Option<Challenge>>,
    pub(super) tokens: Tokens,
    /// Logins that have opened something: a later 401 is about what they were to open, not about them.
    accepted: Mutex<Vec<Login>>,
    /// Logins that were refused here: they are not tried again, so that no account gets locked.
    refused: Mutex<Vec<Login>>,
    /// How often a target has refused logins that had opened nothing by then.
    doubts: Mutex<Vec<(Login, usize)>>,
    /// Held by the one request that shows a login which is in doubt.
    doubtful: Turns<()>,
    /// Origins of logins that were told to the user.
    told: Mutex<BTreeSet<String>>,
    /// What a target said when it refused the login: nothing else will come of it.
    refusal: Mutex<Option<Error>>,
}

impl Authenticator {
    pub(crate) fn new(side: Side, host: Host, keyring: Arc<Keyring>) -> Self {
        Self {
            side,
            host,
            keyring,
            challenge: Mutex::default(),
            tokens: Tokens::default(),
            accepted: Mutex::default(),
            refused: Mutex::default(),
            doubts: Mutex::default(),
            doubtful: Turns::default(),
            told: Mutex::default(),
            refusal: Mutex::default(),
        }
    }

    pub(crate) fn challenge(&self) -> Option<Challenge> {
        lock(&self.challenge).clone()
    }

    /// What a target said for good.
    pub(crate) fn refusal(&self) -> Option<Error> {
        lock(&self.refusal).clone()
    }

    /// The user's login for this host, unless it was refused before.
    ///
    /// # Errors
    /// A credential helper failed, in words for the user.
    pub(crate) async fn login(&self, repository: &Repository) -> Result<Option<Login>, HelperError> {
        let login = match self.keyring.find(&self.host, repository).await {
            // A public source serves everyone.
            Err(HelperError::Absent(program)) if self.side == Side::Source => {
                if lock(&self.told).insert(program.clone()) {
                    let host = &self.host;
                    tracing::warn!(
                        "{host}: {program}, which keeps logins, is not installed: going on without"
                    );
                }
                None
            }
            found => found?,
        };
        let usable = login.filter(|login| !self.is_refused(login));
        if let Some(login) = &usable {
            login.hide(&self.keyring.redactor);
            if lock(&self.told).insert(login.origin.clone()) {
                tracing::info!("{}: using the login from {}", self.host, login.origin);
            }
        }
        Ok(usable)
    }

    /// Learns from a 401 to a request that showed `proof`. Nothing is returned where the request may be made again.
    ///
    /// # Errors
    /// All was shown that there is; with it why the challenge, if it was that, is of no use.
    pub(crate) fn unauthorized(
        &self,
        introduction: &mut Introduction,
        scopes: &Scopes,
        proof: &Proof,
        challenge: Result<Challenge, Useless>,
    ) -> Result<(), Option<Useless>> {
        match (proof, challenge) {
            (Proof::Nothing, Ok(challenge)) if !introduction.introduced => {
                introduction.introduced = true;
                *lock(&self.challenge) = Some(challenge);
                Ok(())
            }
            (Proof::Token(_, spent), Ok(challenge)) if introduction.may_renew(spent) => {
                self.tokens.renew(scopes, spent, challenge.scope());
                *lock(&self.challenge) = Some(challenge);
                Ok(())
            }
            (Proof::Login(_, login), _) if self.side == Side::Target => {
                self.doubt(login);
                Err(None)
            }
            (Proof::Login(_, login), _) if self.may_go_on_without(login) => {
                introduction.introduced = true;
                Ok(())
            }
            (_, challenge) => Err(challenge.err()),
        }
    }

    /// What the mount of a blob needs to be allowed, and what is asked for instead so that one token is good for all
    /// that is mounted into a repository.
    pub(crate) fn scopes_of_mount(
        &self,
        into: &Repository,
        from: &Repository,
        beside: &[Repository],
    ) -> Scopes {
        match self.challenge() {
            Some(Challenge::Bearer { .. }) => self.tokens.unite(into, from, beside),
            None | Some(Challenge::Basic) => Scopes::push(into.as_str()).and(Scopes::pull(from.as_str())),
        }
    }

    /// Notes that `login` has opened something.
    pub(crate) fn accept(&self, login: &Login) {
        let mut accepted = lock(&self.accepted);
        if !accepted.contains(login) {
            accepted.push(login.clone());
        }
    }

    /// Waits for the turn to show `login` to a target where it was refused and has opened nothing yet: what one
    /// repository refuses, the next one may take, and a wrong password is not shown a hundred times at once.
    pub(crate) async fn turn_to_show(&self, login: &Login) -> Option<Turn<'_, ()>> {
        if !self.is_in_doubt(login) {
            return None;
        }
        let turn = self.doubtful.lock().await;
        self.is_in_doubt(login).then_some(turn)
    }

    fn is_in_doubt(&self, login: &Login) -> bool {
        let doubted = lock(&self.doubts).iter().any(|(known, _)| known == login);
        doubted && !lock(&self.accepted).contains(login)
    }

    /// A target has refused `login`, which may be for the sake of one repository.
    fn doubt(&self, login: &Login) {
        let count = {
            let mut doubts = lock(&self.doubts);
            let at = doubts.iter().position(|(known, _)| known == login).unwrap_or_else(|| {
                doubts.push((login.clone(), 0));
                doubts.len() - 1
            });
            doubts[at].1 += 1;
            doubts[at].1
        };
        if count >= REFUSALS_MAX {
            self.refuse(login);
        }
    }

    /// A source that refuses the login may still serve everyone; a target never does. A login that has opened
    /// something before is good, so it is not given up.
    pub(crate) fn may_go_on_without(&self, login: &Login) -> bool {
        let news = self.refuse(login);
        if news && self.side == Side::Source {
            let origin = &login.origin;
            tracing::warn!(
                "{} refuses the login from {origin}: it may be stale; going on without it",
                self.host
            );
        }
        self.side == Side::Source && self.is_refused(login)
    }

    /// A target that has refused the login will not let anything else in.
    pub(crate) fn remember_refusal(&self, login: Option<&Login>, error: Error) -> Error {
        if self.side == Side::Target && login.is_some_and(|login| self.is_refused(login)) {
            lock(&self.refusal).get_or_insert_with(|| error.clone());
        }
        error
    }

    fn is_refused(&self, login: &Login) -> bool {
        lock(&self.refused).contains(login)
    }

    /// Notes that a login was refused, unless it is known to be good; true if that is news.
    fn refuse(&self, login: &Login) -> bool {
        let mut refused = lock(&self.refused);
        let news = !refused.contains(login) && !lock(&self.accepted).contains(login);
        if news {
            refused.push(login.clone());
            // Tokens that it bought are worth nothing now.
            self.tokens.clear();
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator(side: Side) -> Authenticator {
        Authenticator::new(side, "r.example.com".parse().unwrap(), Arc::default())
    }

    fn login() -> Login {
        Login {
            user: "u".to_owned(),
            password: Secret::new("hunter2".to_owned()),
            identity_token: None,
            origin: "a test".to_owned(),
        }
    }

    fn bearer() -> Challenge {
        let realm = "https://auth.example.com/token".parse().unwrap();
        Challenge::Bearer { realm, service: None, scope: None }
    }

    #[test]
    fn each_request_is_introduced_once_and_renews_its_token_once() {
        let scopes = Scopes::pull("a");
        let authenticator = authenticator(Side::Source);
        let mut introduction = Introduction::default();
        let mut refused = |proof: &Proof, challenge| {
            authenticator.unauthorized(&mut introduction, &scopes, proof, challenge)
        };
        assert_eq!(refused(&Proof::Nothing, Ok(bearer())), Ok(()));
        assert_eq!(authenticator.challenge(), Some(bearer()));
        let token = || Proof::Token(Secret::new("Bearer t".to_owned()), authenticator.tokens.cell(&scopes).1);
        assert_eq!(refused(&token(), Ok(bearer())), Ok(()));
        assert_eq!(refused(&token(), Ok(bearer())), Err(None));
        assert_eq!(refused(&Proof::Nothing, Ok(bearer())), Err(None));
        assert_eq!(refused(&Proof::Nothing, Err(Useless::Realm)), Err(Some(Useless::Realm)));
    }

    #[test]
    fn a_source_goes_on_without_a_refused_login_and_a_target_does_not() {
        let proof = || Proof::Login(login().basic(), login());
        for (side, accepted, goes_on) in [
            (Side::Source, false, true),
            (Side::Source, true, false),
            (Side::Target, false, false),
            (Side::Target, true, false),
        ] {
            let authenticator = authenticator(side);
            if accepted {
                authenticator.accept(&login());
            }
            let refused = || {
                authenticator.unauthorized(
                    &mut Introduction::default(),
                    &Scopes::pull("a"),
                    &proof(),
                    Ok(Challenge::Basic),
                )
            };
            assert_eq!(refused().is_ok(), goes_on, "{side:?} {accepted}");
            // What one repository of a target refuses, the next one may take.
            assert_eq!(authenticator.is_refused(&login()), !accepted && side == Side::Source);
            (1..REFUSALS_MAX).for_each(|_| _ = refused());
            assert_eq!(authenticator.is_refused(&login()), !accepted);
        }
    }

    #[test]
    fn a_refused_login_takes_its_tokens_along() {
        let authenticator = authenticator(Side::Source);
        let (_, cell) = authenticator.tokens.cell(&Scopes::pull("a"));
        assert!(authenticator.may_go_on_without(&login()));
        assert!(!Arc::ptr_eq(&cell, &authenticator.tokens.cell(&Scopes::pull("a")).1));
    }
}
