//! Getting in: which login to show a host, and the tokens that it buys.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, Url};

use super::auth::{Challenge, Scopes, Token, TokenCell, Useless, exchange_form, token_question};
use super::contact::Contact;
use super::credentials::{HelperError, Login, Secret};
use super::error::{Error, Kind, Purpose, Side};
use super::exchange::{Ask, Peer, Role, lock};
use super::proxies::is_loopback;
use crate::text;

/// Largest answer of a token service that is read, in bytes.
const TOKEN_BODY_MAX: usize = 1 << 20;

/// What was sent as `Authorization`, to know what to make of a 401.
pub(super) enum Proof {
    Nothing,
    Login(Secret, Login),
    Token(Secret, TokenCell),
}

impl Proof {
    pub fn header(&self) -> Option<&Secret> {
        match self {
            Proof::Nothing => None,
            Proof::Login(secret, _) | Proof::Token(secret, _) => Some(secret),
        }
    }
}

/// What a token service is asked.
struct TokenQuestion<'a> {
    realm: &'a Url,
    service: Option<&'a str>,
    scopes: &'a Scopes,
    doing: &'a str,
}

impl Peer {
    /// A source that refuses the login may still serve everyone; a target never does. A login that has opened
    /// something before is good, so it is not given up.
    pub(super) fn may_go_on_without(&self, login: &Login) -> bool {
        let news = self.session.refuse(login);
        if news && self.side == Side::Source {
            let origin = &login.origin;
            tracing::warn!(
                "{} refuses the login from {origin}: it may be stale; going on without it",
                self.host
            );
        }
        self.side == Side::Source && self.session.is_refused(login)
    }

    /// A target that has refused the login will not let anything else in.
    pub(super) fn remember_refusal(&self, login: Option<&Login>, error: Error) -> Error {
        if self.side == Side::Target && login.is_some_and(|login| self.session.is_refused(login)) {
            lock(&self.refusal).get_or_insert_with(|| error.clone());
        }
        error
    }

    pub(super) async fn not_let_in(
        &self,
        ask: &Ask<'_>,
        response: Response,
        proof: &Proof,
        why: Option<Useless>,
    ) -> Error {
        let mut error = self.failure(ask.purpose, ask.doing.clone(), response).await;
        error.hint = Some(match (why, proof) {
            (Some(Useless::Unknown(schemes)), _) => {
                format!("it offers only {}, which this program does not speak", text::list(&schemes))
            }
            (Some(Useless::Realm), _) => "its challenge names no usable token service".to_owned(),
            (_, Proof::Login(_, login)) => format!("the login from {} was refused", login.origin),
            (_, Proof::Token(..)) => match self.keyring.find(&self.host, ask.repository).await {
                Ok(Some(login)) => format!("the login from {} is not enough for this", login.origin),
                _ => self.no_login(),
            },
            (_, Proof::Nothing) => self.no_login(),
        });
        error
    }

    fn no_login(&self) -> String {
        match self.keyring.helper_for(&self.host) {
            Some(helper) => format!("docker-credential-{helper} has no login for {}", self.host),
            None => format!("no login for it is known; try docker login {}", self.host),
        }
    }

    /// The user's login for this host, unless it was refused before.
    async fn login(&self, ask: &Ask<'_>) -> Result<Option<Login>, Error> {
        let login = match self.keyring.find(&self.host, ask.repository).await {
            Ok(login) => login,
            // A public source serves everyone.
            Err(HelperError::Absent(program)) if self.side == Side::Source => {
                if self.session.is_news(&program) {
                    tracing::warn!(
                        "{}: {program}, which keeps logins, is not installed: going on without",
                        self.host
                    );
                }
                None
            }
            Err(error) => {
                let why = text::printable(&error.to_string());
                return Err(self.error(Kind::Unauthorized, ask.doing.clone(), why));
            }
        };
        let usable = login.filter(|login| !self.session.is_refused(login));
        if let Some(login) = &usable {
            self.keyring.hush.learn_login(login);
        }
        if let Some(login) = usable.as_ref().filter(|login| self.session.is_news(&login.origin)) {
            tracing::info!("{}: using the login from {}", self.host, login.origin);
        }
        Ok(usable)
    }

    /// What to show the host, as far as it has said what it wants to see.
    pub(super) async fn proof(&self, ask: &Ask<'_>) -> Result<Proof, Error> {
        if let Some(refusal) = lock(&self.refusal).clone() {
            return Err(Error { doing: ask.doing.clone(), ..refusal });
        }
        match self.session.challenge() {
            None => Ok(Proof::Nothing),
            Some(Challenge::Basic) => Ok(match self.login(ask).await? {
                Some(login) => Proof::Login(login.basic(), login),
                None => Proof::Nothing,
            }),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let (wanted, cell) = self.session.cell(ask.scopes);
                let service = service.as_deref();
                let token = cell.get_or_try_init(|| self.fetch_token(&realm, service, &wanted, ask)).await?;
                Ok(Proof::Token(token.header(), cell.clone()))
            }
        }
    }

    /// A token for `scopes` from the service that the host named; anonymous where there is no login.
    async fn fetch_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &Scopes,
        ask: &Ask<'_>,
    ) -> Result<Token, Error> {
        self.check_realm(realm, &ask.doing)?;
        // Tries beyond this one are the request's own, so that they do not multiply.
        let question = TokenQuestion { realm, service, scopes, doing: &ask.doing };
        let Some(login) = self.login(ask).await? else { return self.try_token(&question, None).await };
        let error = match self.try_token(&question, Some(&login)).await {
            Ok(token) => {
                self.session.accept(&login);
                return Ok(token);
            }
            Err(error) => error,
        };
        let doubtful = match self.side {
            Side::Source => matches!(error.kind, Kind::Unauthorized | Kind::Denied),
            // A repository may be denied to a good login.
            Side::Target => error.kind == Kind::Unauthorized,
        };
        match doubtful && self.may_go_on_without(&login) {
            true => self.try_token(&question, None).await,
            false => Err(self.remember_refusal(Some(&login), error)),
        }
    }

    /// A token service gets the login, and its answer is worth as much: plain HTTP is only for where the user has
    /// allowed it, which is this very host, or this machine.
    fn check_realm(&self, realm: &Url, doing: &str) -> Result<(), Error> {
        let mut plain = self.bases.iter().filter(|base| base.scheme() == "http");
        if realm.scheme() == "https" || plain.any(|base| base.host() == realm.host() || is_loopback(realm)) {
            return Ok(());
        }
        let why = "its token service is at a plain HTTP address, which could be read on the way".to_owned();
        Err(self.error(Kind::Untrusted, doing.to_owned(), why))
    }

    async fn try_token(&self, question: &TokenQuestion<'_>, login: Option<&Login>) -> Result<Token, Error> {
        let service = text::printable(question.realm.host_str().unwrap_or_default());
        let doing = format!("{}, asking {service} for a token", question.doing);
        let mut response = None;
        if let Some(identity_token) = login.and_then(|login| login.identity_token.as_ref()) {
            let answer =
                self.send(self.exchange_request(question, identity_token, &doing).await?, &doing).await?;
            // Services that know only the older way say so like this.
            let unknown = matches!(answer.status().as_u16(), 404 | 405);
            response = Some(answer).filter(|_| !unknown);
        }
        let response = match response {
            Some(response) => response,
            None => self.send(self.token_request(question, login, &doing).await?, &doing).await?,
        };
        if !response.status().is_success() {
            let mut error = self.failure(Purpose::Token, doing, response).await;
            if let (Some(login), Kind::Unauthorized | Kind::Denied) = (login, &error.kind) {
                error.hint = Some(format!("the login from {} was refused", login.origin));
            }
            return Err(error);
        }
        let body = self.read_body(response, TOKEN_BODY_MAX, &doing).await?;
        let token = Token::parse(&body).map_err(|why| self.error(Kind::Invalid, doing, why.to_owned()))?;
        self.keyring.hush.learn_token(&token.header());
        Ok(token)
    }

    async fn token_request(
        &self,
        question: &TokenQuestion<'_>,
        login: Option<&Login>,
        doing: &str,
    ) -> Result<reqwest::RequestBuilder, Error> {
        let mut url = question.realm.clone();
        url.query_pairs_mut().extend_pairs(token_question(question.service, question.scopes));
        let client = self.client(&url, Role::TokenService, doing).await?;
        let request = client.get(url).header(ACCEPT_ENCODING, "identity");
        Ok(match login {
            Some(login) => request.header(AUTHORIZATION, sensitive(&login.basic())),
            None => request,
        })
    }

    async fn exchange_request(
        &self,
        question: &TokenQuestion<'_>,
        identity_token: &Secret,
        doing: &str,
    ) -> Result<reqwest::RequestBuilder, Error> {
        let form = exchange_form(question.service, question.scopes, identity_token);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let client = self.client(question.realm, Role::TokenService, doing).await?;
        let request = client.post(question.realm.clone());
        let request = request.header(ACCEPT_ENCODING, "identity");
        Ok(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body))
    }

    /// What to show `url` with a request that cannot be repeated by itself, such as an upload's body.
    pub(super) async fn proof_for(&self, ask: &Ask<'_>, url: &Url) -> Result<Proof, Error> {
        if !self.is_own(url) {
            return Ok(Proof::Nothing);
        }
        self.proof(ask).await
    }

    /// Whether `url` is at this very host, and not where it points to.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        matches!(&*self.contact.borrow(), Contact::Known(base) if base.origin() == url.origin())
    }

    /// A 401 came to such a request: next time there will be a new token, unless someone else has got one since.
    pub(super) fn renew_after(&self, scopes: &Scopes, proof: &Proof, headers: &HeaderMap) {
        let Ok(challenge @ Challenge::Bearer { .. }) = Challenge::from_headers(headers) else { return };
        if let Proof::Token(_, spent) = proof {
            self.session.renew(scopes, spent, &challenge);
        }
        self.session.learn(challenge);
    }
}

pub(super) fn sensitive(secret: &Secret) -> HeaderValue {
    let mut value = HeaderValue::from_str(secret.reveal()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
