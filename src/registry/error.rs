//! What can go wrong between here and a registry, as a value that decisions are made on.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;

use crate::reference::Digest;
use crate::text::printable;

/// Which end of the transfer something concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Source,
    Target,
}

/// What an error means for what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// May pass: network trouble, time-outs, 5xx. Worth another try after a pause.
    Transient,
    /// 502, 503 or 504: overloaded at the moment.
    Busy,
    /// No connection came about. May pass too, but says that the host, not the content, is the trouble.
    Unreachable,
    /// The server asks for a pause (429, or 503 with `Retry-After`) of this length, where it said one.
    RateLimited(Option<Duration>),
    /// 401, after a fresh token where one could be had.
    Unauthorized,
    /// 403.
    Denied,
    /// The storage service that the registry redirects to refuses: its signed addresses run out, its regions lag
    /// behind. The registry may name a better one.
    Storage,
    /// The manifest, blob or repository does not exist.
    NotFound,
    /// The registry does not do this at all: 405, 501, `UNSUPPORTED`.
    Unsupported,
    /// 413, or its disguises: the body is larger than the target or a proxy before it takes.
    TooLarge,
    /// The target keeps what a tag names now.
    Immutable,
    /// The upload session is gone; a new one may work.
    SessionGone,
    /// The target lacks content that a manifest names, by its own word (`MANIFEST_BLOB_UNKNOWN`).
    BlobUnknown(Option<Digest>),
    /// Bytes that are not what their digest or size promises.
    Corrupt,
    /// A certificate that nobody here vouches for, or no TLS where TLS must be.
    Untrusted,
    /// Anything else that will not pass by itself.
    Invalid,
}

impl Kind {
    /// Whether the same request may succeed a little later.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Kind::Transient | Kind::Busy | Kind::Unreachable | Kind::Storage | Kind::RateLimited(_)
        )
    }
}

/// An exchange with a registry that failed: which end, which host, what was tried, why.
#[derive(Debug, Clone)]
pub struct Error {
    pub side: Side,
    pub kind: Kind,
    /// The host that the exchange was with, as a person knows it.
    pub host: String,
    /// What was being done, e.g. `GET manifest library/alpine:3`.
    pub doing: String,
    /// What the other side or the system said; made printable already.
    pub why: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    pub status: Option<u16>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.doing, self.reason())
    }
}

impl Error {
    /// Whether the target would not take something. A tag that is to stay what it is is none of that.
    pub fn is_refusal(&self) -> bool {
        self.side == Side::Target && self.kind != Kind::Immutable
    }

    /// Where and why, without what was being done: the same for all that fail for one cause.
    pub fn reason(&self) -> String {
        let preposition = match self.side {
            Side::Source => "from",
            Side::Target => "at",
        };
        let hint = self.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{preposition} {}: {}{hint}", self.host, self.why)
    }
}

/// The error body of the distribution-spec ("Error Codes"), as far as anyone keeps to it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub codes: Vec<String>,
    message: String,
    unknown_blob: Option<Digest>,
}

impl Answer {
    /// Reads what can be read; anything that is not the specified JSON is quoted in short. `hush` takes away what
    /// must not be quoted, before anything is cut.
    pub fn parse(body: &[u8], hush: impl Fn(&str) -> String) -> Self {
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
            let text = hush(&String::from_utf8_lossy(body));
            return Self { message: quote_other(&text), ..Self::default() };
        };
        let errors = json.get("errors").and_then(|e| e.as_array()).map(Vec::as_slice).unwrap_or_default();
        let text = |error: &serde_json::Value, key: &str| {
            error.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
        };
        let codes: Vec<String> = errors.iter().map(|e| text(e, "code").to_ascii_uppercase()).collect();
        let unknown_blob = errors
            .iter()
            .filter(|e| text(e, "code").eq_ignore_ascii_case("MANIFEST_BLOB_UNKNOWN"))
            .find_map(|e| digest_in(e.get("detail")?));
        let told: Vec<String> = errors
            .iter()
            .take(3)
            .map(|e| format!("{} {}", text(e, "code"), text(e, "message")).trim().to_owned())
            .filter(|t| !t.is_empty())
            .collect();
        let message = match told.is_empty() {
            // Token services and some front ends use these instead.
            true => ["message", "error_description", "details", "error"]
                .iter()
                .map(|key| text(&json, key))
                .find(|t| !t.is_empty())
                .unwrap_or_default(),
            false => told.join("; "),
        };
        Self { codes, message: hush(&message), unknown_blob }
    }

    fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|c| c == code)
    }
}

/// The digest in an error's `detail`: the text itself, or its `digest` or `Digest` member.
fn digest_in(detail: &serde_json::Value) -> Option<Digest> {
    let text = detail
        .as_str()
        .or_else(|| detail.get("digest").or_else(|| detail.get("Digest")).and_then(|d| d.as_str()))?;
    text.parse().ok()
}

fn quote_other(text: &str) -> String {
    let text = text.trim();
    if text.get(..1) == Some("<") {
        // An HTML or XML page: its markup says nothing to a person, its code or title does.
        let inside = |tag: &str| {
            let start = text.find(&format!("<{tag}>"))? + tag.len() + 2;
            let end = start + text[start..].find('<')?;
            Some(text[start..end].trim().to_owned())
        };
        return inside("Code")
            .or_else(|| inside("title"))
            .unwrap_or_else(|| "an HTML or XML page".to_owned());
    }
    text.to_owned()
}

/// What a request was for; some answers mean different things to different requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Token,
    Manifest,
    Blob,
    /// A blob that is not at the registry but where its manifest says.
    Foreign,
    /// Starting an upload or mounting.
    Upload,
    /// Sending bytes into an upload session.
    Session,
    ManifestPut,
}

/// The one table that says what an unwelcome status means.
pub(super) fn classify(
    purpose: Purpose,
    status: StatusCode,
    answer: &Answer,
    retry_after: Option<Duration>,
) -> Kind {
    if answer.has("MANIFEST_BLOB_UNKNOWN") {
        return match status.as_u16() {
            // docker-registry answers 500 with this code for layers it will never take.
            500..=599 => Kind::Invalid,
            _ => Kind::BlobUnknown(answer.unknown_blob.clone()),
        };
    }
    if answer.has("TAG_INVALID") || answer.has("TAG_IMMUTABLE") || answer.has("IMAGE_TAG_ALREADY_EXISTS") {
        return Kind::Immutable;
    }
    if answer.has("TOOMANYREQUESTS") {
        return Kind::RateLimited(retry_after);
    }
    match (status.as_u16(), purpose) {
        // What a token service lacks says nothing about what the registry has.
        (404 | 405 | 410 | 413 | 415 | 501, Purpose::Token) => Kind::Invalid,
        (429, _) => Kind::RateLimited(retry_after),
        (503, _) if retry_after.is_some() => Kind::RateLimited(retry_after),
        (401, _) => Kind::Unauthorized,
        // public.ecr.aws says 400 where a token has run out.
        (400, _) if answer.has("DENIED") => Kind::Unauthorized,
        (403, _) => Kind::Denied,
        (400 | 404 | 410, Purpose::Session)
            if !answer.has("DIGEST_INVALID") && !answer.has("SIZE_INVALID") =>
        {
            Kind::SessionGone
        }
        (400, Purpose::Session) => Kind::Corrupt,
        (404 | 410, _) => Kind::NotFound,
        (413, _) => Kind::TooLarge,
        (416, Purpose::Session) => Kind::TooLarge,
        (409, Purpose::ManifestPut) => Kind::Immutable,
        (405 | 415 | 501, _) => Kind::Unsupported,
        // A blob that is sent again costs far more than a question that is asked again.
        (502..=504, Purpose::Session) => Kind::Transient,
        (502..=504, _) => Kind::Busy,
        (408 | 425 | 499 | 500 | 520..=524, _) => Kind::Transient,
        _ => Kind::Invalid,
    }
}

/// What a refusal means that does not come from the registry itself but from where it redirects to. That there is no
/// such manifest is believed from there as well.
pub(super) fn classify_elsewhere(purpose: Purpose, kind: Kind) -> Kind {
    match (kind, purpose) {
        (Kind::Unauthorized | Kind::Denied | Kind::Invalid, _)
        | (Kind::NotFound, Purpose::Blob | Purpose::Foreign)
        // Its wish is none of the registry's, whose other images should not wait.
        | (Kind::RateLimited(_), Purpose::Foreign) => Kind::Storage,
        (kind, _) => kind,
    }
}

/// The answer in words: status, codes, message, shortened and without control characters.
pub(super) fn describe(status: StatusCode, answer: &Answer) -> String {
    printable(&format!("{} {}", status.as_str(), answer_or_reason(status, answer)))
}

fn answer_or_reason(status: StatusCode, answer: &Answer) -> String {
    match answer.message.trim() {
        "" => status.canonical_reason().unwrap_or("").to_owned(),
        message => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer::parse(body.as_bytes(), str::to_owned)
    }

    fn kind(purpose: Purpose, status: u16, body: &str) -> Kind {
        classify(purpose, StatusCode::from_u16(status).unwrap(), &answer(body), None)
    }

    #[test]
    fn each_answer_has_one_meaning() {
        use Purpose::*;
        let unknown = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":{"digest":"DIGEST"}}]}"#;
        let digest = Digest::of(crate::reference::Algorithm::Sha256, b"x");
        let unknown = unknown.replace("DIGEST", digest.as_str());
        let code = |c: &str| format!(r#"{{"errors":[{{"code":"{c}","message":"m"}}]}}"#);
        let table = [
            (Manifest, 404, String::new(), Kind::NotFound),
            (Token, 404, String::new(), Kind::Invalid),
            (Token, 405, code("UNSUPPORTED"), Kind::Invalid),
            (Manifest, 401, String::new(), Kind::Unauthorized),
            (Manifest, 403, String::new(), Kind::Denied),
            (Manifest, 429, "Too Many Requests (HAP429).\n".into(), Kind::RateLimited(None)),
            (Blob, 500, code("UNKNOWN"), Kind::Transient),
            (Blob, 503, "<html><title>busy</title>".into(), Kind::Busy),
            (Blob, 400, code("TOOMANYREQUESTS"), Kind::RateLimited(None)),
            (Blob, 400, code("DENIED"), Kind::Unauthorized),
            (Upload, 405, "Method not allowed".into(), Kind::Unsupported),
            (Session, 404, code("BLOB_UPLOAD_UNKNOWN"), Kind::SessionGone),
            (Session, 400, code("BLOB_UPLOAD_INVALID"), Kind::SessionGone),
            (Session, 400, code("DIGEST_INVALID"), Kind::Corrupt),
            (Session, 413, "<html>".into(), Kind::TooLarge),
            (Session, 503, "<html>".into(), Kind::Transient),
            (Session, 416, String::new(), Kind::TooLarge),
            (ManifestPut, 400, unknown.clone(), Kind::BlobUnknown(Some(digest))),
            (ManifestPut, 500, unknown, Kind::Invalid),
            (ManifestPut, 400, code("MANIFEST_INVALID"), Kind::Invalid),
            (ManifestPut, 415, String::new(), Kind::Unsupported),
            (ManifestPut, 501, String::new(), Kind::Unsupported),
        ];
        for (purpose, status, body, expected) in table {
            assert_eq!(kind(purpose, status, &body), expected, "{purpose:?} {status} {body}");
        }
    }

    #[test]
    fn odd_error_bodies_are_told_in_short() {
        let told = |body: &str| describe(StatusCode::BAD_REQUEST, &answer(body));
        assert_eq!(
            told(r#"{"errors":[{"code":"denied","message":"no\u001b[2J"}]}"#),
            "400 denied no\\u{1b}[2J"
        );
        assert_eq!(told(r#"{"errors":null}"#), "400 Bad Request");
        assert_eq!(told(r#"{"error":"invalid_grant","error_description":"gone"}"#), "400 gone");
        assert_eq!(told("<?xml version='1'?><Error><Code>AccessDenied</Code></Error>"), "400 AccessDenied");
        assert_eq!(told("<html><body>x"), "400 an HTML or XML page");
        assert!(told(&"y".repeat(100_000)).len() < 1024);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_parser_fail_or_a_message_long(
            garbage in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
            code in ".{0,80}",
            message in ".{0,2000}",
        ) {
            let error = serde_json::json!({ "code": code, "message": message, "detail": [message] });
            let proper = serde_json::json!({ "errors": [error, null, 7, error] }).to_string();
            let page = format!("<html><title>{message}</title>");
            for body in [&garbage[..], proper.as_bytes(), page.as_bytes()] {
                let answer = Answer::parse(body, str::to_owned);
                let told = describe(StatusCode::BAD_REQUEST, &answer);
                // Each character may be written as an escape.
                proptest::prop_assert!(told.chars().count() <= 300 * 10 + 10, "{}", told.len());
                proptest::prop_assert!(!told.chars().any(char::is_control));
                let _ = classify(Purpose::Manifest, StatusCode::BAD_REQUEST, &answer, None);
            }
        }
    }
}
