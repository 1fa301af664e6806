//! Why an exchange failed: facts that code decides on, and what is shown of them.

use std::fmt;
use std::time::Duration;

use crate::redact::Redactor;
use crate::util::text::{self, printable};

/// Longest text of a stranger that is kept as it came until somebody wants to see it, in bytes.
const KEPT_MAX: usize = 1 << 10;

/// Why an exchange failed.
#[derive(Debug, Clone)]
pub enum Cause {
    /// A sentence of this program's own; no code decides on it.
    Told(String),
    /// What a library or a system said; no code decides on it either.
    Quoted(Quote),
    /// An answer of the other side that says no.
    Answer(Box<Answer>),
    /// The host answers, but not with TLS.
    NoTls,
    /// The host's certificate, and what is wrong with it.
    Certificate(String),
    /// TLS came to nothing for another reason.
    Tls(String),
    /// There is no connection.
    NoConnection(Quote),
    /// There is one, and nothing was heard in so long a time.
    NoAnswer(Duration),
    /// The host's name has no address; `passing` where that may be otherwise a little later.
    Dns { passing: bool, detail: Quote },
    /// An address that a stranger named is on a private network or on this machine; the host where it is known.
    Forbidden(Option<String>),
    /// A proxy is in the way.
    Proxy { proxy: String, trouble: ProxyTrouble },
    /// A blob was taken, and the copy of it that is there is damaged all the same: how, in a sentence.
    DamagedCopy(String),
    /// What should be a list of referrers is something of this media type.
    NoList(String),
}

/// What is wrong with a proxy.
#[derive(Debug, Clone)]
pub enum ProxyTrouble {
    /// It wants a login (407).
    WantsLogin,
    /// There is no connection to it.
    Unreachable(Quote),
    /// TLS with it came to nothing.
    Tls(Box<Cause>),
    /// It does not connect us to the host; the line with which it says so.
    Refuses(Quote),
    /// The connection through it came to nothing.
    Broken(Quote),
}

/// An answer with an error status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// The error codes in it that mean something here.
    pub codes: Vec<Code>,
    pub message: Quote,
    /// The host that gave it, where that is not the registry but one that it points to.
    pub elsewhere: Option<String>,
}

impl Answer {
    fn shown(&self, redactor: &Redactor) -> String {
        let said = printable(&format!("{} {}", self.status, redactor.apply(&self.message.0)));
        match &self.elsewhere {
            Some(host) => format!("{said} (said by {}, where it points to)", redactor.apply(host)),
            None => said,
        }
    }

    pub(crate) fn has(&self, code: Code) -> bool {
        self.codes.contains(&code)
    }
}

/// The error codes that something is decided on: those of the distribution-spec ("Error Codes"), and those that
/// registries have made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Denied,
    DigestInvalid,
    /// Amazon's and Quay's `TAG_IMMUTABLE`, `TAG_INVALID` of old, Huawei's `IMAGE_TAG_ALREADY_EXISTS`.
    TagImmutable,
    ManifestBlobUnknown,
    NameUnknown,
    SizeInvalid,
    TooManyRequests,
}

impl Code {
    /// The code that `text` is, in whatever case; `None` for one that nothing is decided on.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "DENIED" => Self::Denied,
            "DIGEST_INVALID" => Self::DigestInvalid,
            "IMAGE_TAG_ALREADY_EXISTS" | "TAG_IMMUTABLE" | "TAG_INVALID" => Self::TagImmutable,
            "MANIFEST_BLOB_UNKNOWN" => Self::ManifestBlobUnknown,
            "NAME_UNKNOWN" => Self::NameUnknown,
            "SIZE_INVALID" => Self::SizeInvalid,
            "TOOMANYREQUESTS" => Self::TooManyRequests,
            _ => return None,
        })
    }
}

/// A stranger's text. It may hold a secret that it was shown, so that it is seen by nobody as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Quote(String);

impl Quote {
    /// Keeps `text` until it is shown; one that is long only as far as it would be shown, without secrets.
    pub(crate) fn new(text: String, redactor: &Redactor) -> Self {
        if text.len() <= KEPT_MAX { Self(text) } else { Self(printable(&redactor.apply(&text))) }
    }

    /// The text without secrets and control characters, shortened.
    pub(crate) fn shown(&self, redactor: &Redactor) -> String {
        printable(&redactor.apply(&self.0))
    }
}

impl fmt::Debug for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

impl From<String> for Cause {
    fn from(sentence: String) -> Self {
        Self::Told(sentence)
    }
}

impl From<&str> for Cause {
    fn from(sentence: &str) -> Self {
        Self::Told(sentence.to_owned())
    }
}

impl From<Quote> for Cause {
    fn from(quote: Quote) -> Self {
        Self::Quoted(quote)
    }
}

impl Cause {
    /// The cause in words, without the secrets that `redactor` knows: a stranger may put one anywhere.
    pub(crate) fn shown(&self, redactor: &Redactor) -> String {
        let told = match self {
            Self::Quoted(quote) => return quote.shown(redactor),
            Self::Proxy { proxy, trouble } => return trouble.shown(proxy, redactor),
            Self::NoConnection(reason) => return format!("cannot connect: {}", reason.shown(redactor)),
            Self::Dns { passing: true, detail } => return detail.shown(redactor),
            Self::Dns { passing: false, detail } => {
                return format!("no such host: {}", detail.shown(redactor));
            }
            Self::Answer(answer) => return answer.shown(redactor),
            Self::Told(sentence) | Self::DamagedCopy(sentence) => return redactor.apply(sentence),
            Self::NoTls => "it does not speak TLS".to_owned(),
            Self::NoAnswer(limit) => format!("no answer within {}", text::duration(*limit)),
            Self::Certificate(reason) => format!("its certificate is not trusted: {reason}"),
            Self::Tls(reason) => format!("TLS: {reason}"),
            Self::Forbidden(host) => {
                let place = host.as_ref().map_or(String::new(), |host| format!("it points to {host}: "));
                format!(
                    "{place}it leads to an address on a private network or this machine, which is refused"
                )
            }
            Self::NoList(media_type) => format!("it answers with {media_type}"),
        };
        printable(&redactor.apply(&told))
    }
}

impl ProxyTrouble {
    fn shown(&self, proxy: &str, redactor: &Redactor) -> String {
        match self {
            Self::WantsLogin => format!("the proxy {proxy} wants a login (407)"),
            Self::Unreachable(why) => format!("cannot connect to the proxy {proxy}: {}", why.shown(redactor)),
            Self::Tls(why) => format!("cannot connect to the proxy {proxy}: {}", why.shown(redactor)),
            Self::Refuses(why) => {
                format!("the proxy {proxy} does not let it through: {}", why.shown(redactor))
            }
            Self::Broken(why) => format!("cannot connect through the proxy {proxy}: {}", why.shown(redactor)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_in_no_kind_of_cause() {
        let redactor = Redactor::default();
        redactor.learn("hunter2");
        let text = || "told hunter2".to_owned();
        let quote = || Quote::new(text(), &redactor);
        let proxy = |trouble| Cause::Proxy { proxy: "p:1".to_owned(), trouble };
        let answer = Answer { status: 400, codes: vec![], message: quote(), elsewhere: Some(text()) };
        let causes = [
            Cause::Told(text()),
            Cause::DamagedCopy(text()),
            Cause::Quoted(quote()),
            Cause::Answer(Box::new(answer)),
            Cause::Certificate(text()),
            Cause::Tls(text()),
            Cause::NoConnection(quote()),
            Cause::Dns { passing: true, detail: quote() },
            Cause::Dns { passing: false, detail: quote() },
            Cause::Forbidden(Some(text())),
            Cause::NoList(text()),
            proxy(ProxyTrouble::Unreachable(quote())),
            proxy(ProxyTrouble::Tls(Box::new(Cause::Tls(text())))),
            proxy(ProxyTrouble::Refuses(quote())),
            proxy(ProxyTrouble::Broken(quote())),
        ];
        for cause in causes {
            let shown = cause.shown(&redactor);
            assert!(shown.contains("told ***") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_long_text_is_redacted_before_it_is_cut() {
        let redactor = Redactor::default();
        redactor.learn("hunter2");
        let quote = Quote::new(format!("{}hunter2{}", "x".repeat(296), "y".repeat(5000)), &redactor);
        assert!(quote.0.len() <= KEPT_MAX && quote.0.ends_with("x***y…"), "{}", quote.0);
        let short = Quote::new(format!("{}hunter2", "x".repeat(298)), &redactor);
        assert!(!short.shown(&redactor).contains("hun"), "{}", short.shown(&redactor));
    }
}
