//! Logins that the user has, as `docker login`, `podman login` and their relatives leave them.
//!
//! Files are in the form of docker's `config.json` and containers-auth.json(5). They are read in the order that
//! podman and docker document; the first that has a login for a repository gives it. A login is looked up only once
//! a registry has asked for one.

mod file;
mod helper;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::OnceCell;

use self::file::AuthFile;
pub use self::helper::{HelperError, end_helpers};
use crate::image::reference::{Host, Repository};
use crate::redact::Redactor;
use crate::util::text;

/// Something that must not be seen: neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one request that it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What follows the scheme in the value of an `Authorization` header.
    pub(super) fn value(&self) -> &str {
        self.0.split_once(' ').map_or(&self.0, |(_, value)| value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a user shows a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
    /// Exchanged for tokens where there is one, instead of the password (docker's `identitytoken`).
    pub identity_token: Option<Secret>,
    /// Where it was found, for messages.
    pub origin: String,
}

impl Login {
    /// The value of an `Authorization: Basic` header (RFC 7617).
    pub fn basic(&self) -> Secret {
        let pair = match &self.identity_token {
            Some(token) if self.password.0.is_empty() => format!("{}:{}", self.user_or_token(), token.0),
            _ => format!("{}:{}", self.user, self.password.0),
        };
        Secret(format!("Basic {}", STANDARD.encode(pair)))
    }

    /// Keeps the login out of all that is shown from now on.
    pub(super) fn hide(&self, redactor: &Redactor) {
        redactor.learn(self.basic().value());
        redactor.learn(&self.password.0);
        if let Some(token) = &self.identity_token {
            redactor.learn_token(&token.0);
        }
    }

    fn user_or_token(&self) -> &str {
        if self.user.is_empty() { "<token>" } else { &self.user }
    }
}

/// Where logins may come from besides the usual files, by the command line.
#[derive(Debug, Default)]
pub struct Given {
    /// `--username` and `--password-stdin`, for this host alone.
    pub target: Option<(Host, Login)>,
    /// `--authfile`
    pub authfile: Option<PathBuf>,
}

/// All logins of a user. Looked up by host and repository, since a key may be scoped to a path.
#[derive(Debug, Default)]
pub struct Keyring {
    target: Option<(Host, Login)>,
    files: Vec<AuthFile>,
    /// What helpers said, by helper and server: each is asked once, even if it then fails, which may take its time.
    asked: Mutex<HashMap<(String, String), Answer>>,
    /// Knows what hosts were shown, and may say back.
    pub(super) redactor: Arc<Redactor>,
}

type Answer = Arc<OnceCell<Result<Option<Login>, HelperError>>>;

impl Keyring {
    /// Reads the files that there are. `environment` gives variables, of the process or of a test.
    ///
    /// # Errors
    /// A file that the user named is missing; any file is unreadable or malformed. The message never quotes it.
    pub fn new(given: Given, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut files = Vec::new();
        let get = |name: &str| environment(name).filter(|value| !value.is_empty());
        for (place, named) in places(given.authfile, &get) {
            match place {
                Place::Text(text) => {
                    files.push(AuthFile::parse(text.as_bytes(), "DOCKER_AUTH_CONFIG".to_owned())?)
                }
                Place::File(path) if named || path.exists() => {
                    let file = AuthFile::read(&path);
                    files.push(file.with_context(|| format!("cannot use the logins in {}", path.display()))?);
                }
                Place::File(_) => {}
            }
        }
        Ok(Self { target: given.target, files, ..Self::default() })
    }

    /// The login for `repository` at `host`; `None` means that the user has none.
    ///
    /// # Errors
    /// A credential helper failed. [`HelperError::Absent`]: no login is known, but the program that keeps those for all
    /// hosts, which may have one, is not installed.
    pub async fn find(&self, host: &Host, repository: &Repository) -> Result<Option<Login>, HelperError> {
        if let Some((target, login)) = &self.target
            && target == host
        {
            return Ok(Some(login.clone()));
        }
        let mut absent = None;
        for file in &self.files {
            if let Some(helper) = file.helper_for(host) {
                let exclusive = file.helper_is_exclusive(host);
                match self.ask(&helper, host, file).await {
                    Ok(Some(login)) => return Ok(Some(login)),
                    Ok(None) if exclusive => continue,
                    Ok(None) => {}
                    Err(error @ HelperError::Absent(_)) if !exclusive => absent = Some(error),
                    // Named for this very host, it is the only one that may know.
                    Err(error) => return Err(HelperError::Failed(error.to_string())),
                }
            }
            if let Some(login) = file.login_for(host, repository) {
                return Ok(Some(login));
            }
        }
        absent.map_or(Ok(None), Err)
    }

    /// The credential helper that the user has named for this very host.
    pub fn helper_for(&self, host: &Host) -> Option<String> {
        let file = self.files.iter().find(|file| file.helper_is_exclusive(host))?;
        file.helper_for(host).map(|helper| text::printable(&helper))
    }

    async fn ask(&self, helper: &str, host: &Host, file: &AuthFile) -> Result<Option<Login>, HelperError> {
        let server = file.server_name(host);
        let key = (helper.to_owned(), server.clone());
        let cell = self
            .asked
            .lock()
            .expect("no code panics while it holds this lock")
            .entry(key)
            .or_default()
            .clone();
        cell.get_or_init(|| helper::get(helper, &server)).await.clone()
    }
}

enum Place {
    /// JSON in a variable.
    Text(String),
    File(PathBuf),
}

/// The places to look in, first to last, and whether the user named them (then they have to be there).
fn places(authfile: Option<PathBuf>, get: &dyn Fn(&str) -> Option<String>) -> Vec<(Place, bool)> {
    let mut places = Vec::new();
    let mut file = |path: Option<PathBuf>, named| places.extend(path.map(|path| (Place::File(path), named)));
    file(authfile, true);
    file(get("REGISTRY_AUTH_FILE").map(PathBuf::from), true);
    places.extend(get("DOCKER_AUTH_CONFIG").map(|text| (Place::Text(text), true)));
    let mut file = |path: Option<PathBuf>| places.extend(path.map(|path| (Place::File(path), false)));
    let home = get("HOME").map(PathBuf::from).or_else(std::env::home_dir);
    let config = get("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".config")));
    file(get("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json")));
    file(config.map(|dir| dir.join("containers/auth.json")));
    let docker = get("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home?.join(".docker")));
    file(docker.map(|dir| dir.join("config.json")));
    places
}

#[cfg(test)]
mod tests;
