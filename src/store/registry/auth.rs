//! Getting in: what a host wants to see, which login to show it, and the tokens that the login buys.
//!
//! A registry that wants a login says so with 401 and a challenge; for `Bearer` a token comes from the service that the
//! challenge names. Nothing is asked for in advance: the first answer of a host teaches the rest.

mod challenge;
mod login;
mod token;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

pub(super) use self::challenge::{Challenge, Useless};
pub(super) use self::login::{Authenticator, Introduction, Proof};
pub(super) use self::token::Scopes;

use self::token::{Token, exchange_form, token_question};
use super::Registry;
use super::answer::Purpose;
use super::client::Call;
use super::credentials::{Login, Secret};
use crate::error::{Error, Kind, Remedy, Side};
use crate::util::text;

/// Largest answer of a token service that is read, in bytes.
const TOKEN_BODY_MAX: usize = 1 << 20;

/// What a token service is asked, and for whom.
struct TokenQuestion<'a> {
    realm: &'a Url,
    service: Option<&'a str>,
    scopes: &'a Scopes,
    /// The request that needs the token.
    call: &'a Call<'a>,
}

impl Registry {
    /// What to show the host, as far as it has said what it wants to see.
    pub(super) async fn proof(&self, call: &Call<'_>) -> Result<Proof, Error> {
        self.may_ask(call)?;
        match self.auth.challenge() {
            None => Ok(Proof::Nothing),
            Some(Challenge::Basic) => Ok(match self.login(call).await? {
                Some(login) => Proof::Login(login.basic(), login),
                None => Proof::Nothing,
            }),
            Some(Challenge::Bearer { realm, service, .. }) => {
                // By the end of a pause that the host has asked for a token may have run out.
                self.gate.rest().await;
                loop {
                    let (wanted, cell) = self.auth.tokens.cell(&call.scopes);
                    let question =
                        TokenQuestion { realm: &realm, service: service.as_deref(), scopes: &wanted, call };
                    match cell.get_or_try_init(|| self.fetch_token(&question)).await {
                        Ok(token) => return Ok(Proof::Token(token.header(), cell.clone())),
                        // Some services give nothing where one scope of several is not to be had.
                        Err(error)
                            if !error.kind.may_pass() && self.auth.tokens.narrow(&call.scopes, &wanted) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Fails what a target that has refused the login for good would not let in.
    pub(super) fn may_ask(&self, call: &Call<'_>) -> Result<(), Error> {
        let refusal = self.auth.refusal();
        refusal.map_or(Ok(()), |refusal| Err(Error { action: call.action.clone(), ..refusal }))
    }

    /// The error of a request that was not let in although all was shown that there is.
    pub(super) async fn not_let_in(
        &self,
        call: &Call<'_>,
        response: Response,
        proof: &Proof,
        why: Option<Useless>,
    ) -> Error {
        let error = self.failure(call.purpose, call.repository, call.action.clone(), response).await;
        let remedy = match (why, proof) {
            (Some(Useless::Unknown(schemes)), _) => Remedy::UnknownSchemes(schemes),
            (Some(Useless::Realm), _) => Remedy::NoTokenService,
            (_, Proof::Login(_, login)) => Remedy::LoginRefused(login.origin.clone()),
            (_, Proof::Token(..)) => match self.keyring.find(&self.host, call.repository).await {
                Ok(Some(login)) => Remedy::LoginNotEnough(login.origin),
                _ => self.no_login(),
            },
            (_, Proof::Nothing) => self.no_login(),
        };
        self.auth.remember_refusal(proof.login(), error.with_remedy(remedy))
    }

    fn no_login(&self) -> Remedy {
        let host = self.host.clone();
        match self.keyring.helper_for(&self.host) {
            Some(helper) => Remedy::HelperHasNone { helper, host },
            None => Remedy::LogIn(host),
        }
    }

    async fn login(&self, call: &Call<'_>) -> Result<Option<Login>, Error> {
        let login = self.auth.login(call.repository).await;
        login.map_err(|why| {
            self.error(Kind::Unauthorized, call.action.clone(), text::printable(&why.to_string()))
        })
    }

    /// A token from the service that the host named; anonymous where there is no login.
    async fn fetch_token(&self, question: &TokenQuestion<'_>) -> Result<Token, Error> {
        let call = question.call;
        if !self.addresses.may_get_login(question.realm) {
            let why = "its token service is at a plain HTTP address, which could be read on the way";
            return Err(self.error(Kind::Untrusted, call.action.clone(), why));
        }
        // Tries beyond this one are the request's own, so that they do not multiply.
        let Some(login) = self.login(call).await? else { return self.try_token(question, None).await };
        let error = match self.try_token(question, Some(&login)).await {
            Ok(token) => {
                self.auth.accept(&login);
                return Ok(token);
            }
            Err(error) => error,
        };
        let doubtful = match self.side {
            Side::Source => matches!(error.kind, Kind::Unauthorized | Kind::Denied),
            // A repository may be denied to a good login.
            Side::Target => error.kind == Kind::Unauthorized,
        };
        if doubtful && self.auth.may_go_on_without(&login) {
            self.try_token(question, None).await
        } else {
            Err(self.auth.remember_refusal(Some(&login), error))
        }
    }

    async fn try_token(&self, question: &TokenQuestion<'_>, login: Option<&Login>) -> Result<Token, Error> {
        let response = match login.and_then(|login| login.identity_token.as_ref()) {
            Some(identity_token) => {
                let answer = self.exchange_identity(question, identity_token).await?;
                // Services that know only the older way say so like this.
                match answer.status() {
                    StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                        self.ask_for_token(question, login).await?
                    }
                    _ => answer,
                }
            }
            None => self.ask_for_token(question, login).await?,
        };
        let action = question.action();
        if !response.status().is_success() {
            let error = self.failure(Purpose::Token, question.call.repository, action, response).await;
            return Err(match (login, &error.kind) {
                (Some(login), Kind::Unauthorized | Kind::Denied) => {
                    error.with_remedy(Remedy::LoginRefused(login.origin.clone()))
                }
                _ => error,
            });
        }
        let body = self.read_body(response, TOKEN_BODY_MAX, &action).await?;
        let token = Token::parse(&body).map_err(|why| self.error(Kind::Invalid, action, why))?;
        self.redactor().learn_token(token.header().value());
        Ok(token)
    }

    async fn ask_for_token(
        &self,
        question: &TokenQuestion<'_>,
        login: Option<&Login>,
    ) -> Result<Response, Error> {
        let mut url = question.realm.clone();
        url.query_pairs_mut().extend_pairs(token_question(question.service, question.scopes));
        let call = self.token_call(Method::GET, question);
        self.hop(&call, &url, login.map(Login::basic).as_ref()).await
    }

    /// The OAuth2 exchange (distribution's token specification, "POST /token").
    async fn exchange_identity(
        &self,
        question: &TokenQuestion<'_>,
        identity_token: &Secret,
    ) -> Result<Response, Error> {
        let form = exchange_form(question.service, question.scopes, identity_token);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let call = self.token_call(Method::POST, question);
        self.hop(&call.header(CONTENT_TYPE, form).body(body.into()), question.realm, None).await
    }

    /// A 401 came to a request that cannot be repeated by itself: next time there will be a new token, unless someone
    /// else has got one since.
    pub(super) fn renew_after(&self, scopes: &Scopes, proof: &Proof, headers: &HeaderMap) {
        if let challenge @ Ok(Challenge::Bearer { .. }) = Challenge::from_headers(headers) {
            let _ = self.auth.unauthorized(&mut Introduction::default(), scopes, proof, challenge);
        }
    }

    fn token_call<'a>(&self, method: Method, question: &TokenQuestion<'a>) -> Call<'a> {
        let at = question.realm.clone();
        self.call(method, Purpose::Token, question.call.repository, at, question.action())
    }
}

impl TokenQuestion<'_> {
    fn action(&self) -> String {
        let service = text::printable(self.realm.host_str().unwrap_or_default());
        format!("{}, asking {service} for a token", self.call.action)
    }
}

#[cfg(test)]
mod tests;
