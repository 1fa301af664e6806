//! Who may do what.

use base64::Engine as _;

use super::token::TokenService;
use crate::support::journal::Op;
use crate::support::net::Host;
use crate::support::net::call::Call;
use crate::support::net::reply::Reply;

#[derive(Clone, Default)]
pub enum Auth {
    #[default]
    None,
    Basic {
        user: String,
        password: String,
    },
    Token(TokenService),
}

impl Auth {
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    pub(in crate::support) fn check(&self, host: &Host, call: &Call) -> Result<(), Reply> {
        match self {
            Self::None => Ok(()),
            Self::Basic { user, password } => check_basic(call, user, password),
            Self::Token(service) => check_token(service, host, call),
        }
    }
}

/// User and password of a `Basic` header.
pub fn basic_credentials(header: Option<&str>) -> Option<(String, String)> {
    let encoded = header?.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn check_basic(call: &Call, user: &str, password: &str) -> Result<(), Reply> {
    let shown = basic_credentials(call.header("authorization"));
    if shown.is_some_and(|(u, p)| u == user && p == password) {
        return Ok(());
    }
    let challenge = "Basic realm=\"test registry\"";
    Err(unauthorized().with("WWW-Authenticate", challenge))
}

fn check_token(service: &TokenService, host: &Host, call: &Call) -> Result<(), Reply> {
    let wanted = wanted_scopes(call);
    let shown = call.header("authorization").and_then(|h| h.strip_prefix("Bearer "));
    let problem = match shown {
        None => None,
        Some(token) => match service.state.scopes_of(token) {
            None => Some("invalid_token"),
            Some(granted) if wanted.iter().all(|scope| granted.contains(scope)) => return Ok(()),
            Some(_) => Some("insufficient_scope"),
        },
    };
    let mut challenge = format!("Bearer realm=\"{}\",service=\"{}\"", service.realm(), host.name);
    if !wanted.is_empty() {
        challenge += &format!(",scope=\"{}\"", scope_text(&wanted));
    }
    if let Some(problem) = problem {
        challenge += &format!(",error=\"{problem}\"");
    }
    Err(unauthorized().with("WWW-Authenticate", challenge))
}

fn unauthorized() -> Reply {
    Reply::error(401, "UNAUTHORIZED", "authentication required")
}

/// Repository and action.
pub type Scope = (String, String);

/// What the request needs, as distribution asks for it.
fn wanted_scopes(call: &Call) -> Vec<Scope> {
    let actions: &[&str] = match call.op {
        Op::Ping | Op::Other | Op::Token => return Vec::new(),
        Op::UploadDelete => &["delete"],
        op if op.writes() || op == Op::UploadStatus => &["pull", "push"],
        _ => &["pull"],
    };
    let scope = |repository: &str, action: &str| (repository.to_owned(), action.to_owned());
    let mut scopes: Vec<_> = actions.iter().map(|a| scope(&call.repository, a)).collect();
    if let Some(from) = call.param("from").filter(|_| call.op == Op::Mount) {
        scopes.push(scope(&from, "pull"));
    }
    scopes
}

/// `repository:a/b:pull,push repository:c:pull`
fn scope_text(scopes: &[Scope]) -> String {
    let mut names: Vec<&str> = scopes.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let one = |name: &&str| {
        let of_name = scopes.iter().filter(|(n, _)| n == name);
        let actions: Vec<_> = of_name.map(|(_, action)| action.as_str()).collect();
        format!("repository:{name}:{}", actions.join(","))
    };
    names.iter().map(one).collect::<Vec<_>>().join(" ")
}
