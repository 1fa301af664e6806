//! What an answer that says no means: its body read once, into facts, and the one table that says what follows.

use std::time::Duration;

use reqwest::StatusCode;

use crate::error::{Answer, Code, Kind, Quote};
use crate::image::reference::Digest;
use crate::redact::Redactor;

/// Most pieces of content that one answer is heard to miss.
const UNKNOWN_MAX: usize = 1000;

/// An error body as far as anyone keeps to the distribution-spec ("Error Codes").
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    codes: Vec<Code>,
    message: Quote,
    unknown_blobs: Vec<Digest>,
    pub said: Option<Said>,
}

/// What servers say in words alone. No more than the remedy that is shown depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It wants to see a certificate of ours.
    WantsCertificate,
    /// It was spoken to without TLS.
    WantsTls,
    /// It is Amazon's registry, where each repository has to be made.
    IsAmazon,
}

impl Said {
    /// Reads the words of nginx ("No required SSL certificate was sent", "The SSL certificate error", "The plain HTTP
    /// request was sent to HTTPS port"), of Go's server ("Client sent an HTTP request to an HTTPS server.") and of
    /// Amazon ("does not exist in the registry with id"). None of them comes with a code or a header of its own.
    fn read(text: &str) -> Option<Self> {
        let table = [
            ("SSL certificate", Self::WantsCertificate),
            ("to an HTTPS server", Self::WantsTls),
            ("to HTTPS port", Self::WantsTls),
            ("registry with id", Self::IsAmazon),
        ];
        table.into_iter().find(|(words, _)| text.contains(words)).map(|(_, said)| said)
    }
}

impl Refusal {
    /// Reads what can be read; anything that is not the specified JSON is quoted in short.
    pub(super) fn parse(status: StatusCode, body: &[u8], redactor: &Redactor) -> Self {
        let refusal = |codes, message: String, unknown_blobs| {
            let said = Said::read(&message);
            let message = match message.trim() {
                "" => status.canonical_reason().unwrap_or_default().to_owned(),
                message => message.to_owned(),
            };
            Self { status, codes, message: Quote::new(message, redactor), unknown_blobs, said }
        };
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
            return refusal(Vec::new(), quote_other(&String::from_utf8_lossy(body)), Vec::new());
        };
        let errors = json.get("errors").and_then(|e| e.as_array()).map(Vec::as_slice).unwrap_or_default();
        let text = |error: &serde_json::Value, key: &str| {
            error.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
        };
        let code = |error: &serde_json::Value| Code::parse(&text(error, "code"));
        let unknown_blobs = errors
            .iter()
            .filter(|e| code(e) == Some(Code::ManifestBlobUnknown))
            .filter_map(|e| digest_in(e.get("detail")?))
            .take(UNKNOWN_MAX)
            .collect();
        let told: Vec<String> = errors
            .iter()
            .take(3)
            .map(|e| format!("{} {}", text(e, "code"), text(e, "message")).trim().to_owned())
            .filter(|t| !t.is_empty())
            .collect();
        let message = if told.is_empty() {
            // Token services and some front ends use these instead.
            let keys = ["message", "error_description", "details", "error"];
            keys.iter().map(|key| text(&json, key)).find(|t| !t.is_empty()).unwrap_or_default()
        } else {
            told.join("; ")
        };
        refusal(errors.iter().filter_map(code).collect(), message, unknown_blobs)
    }

    /// The facts of it that an error keeps. `elsewhere` is the host that gave it, if not the registry itself.
    pub(super) fn into_answer(self, elsewhere: Option<String>) -> Answer {
        Answer { status: self.status.as_u16(), codes: self.codes, message: self.message, elsewhere }
    }

    fn has(&self, code: Code) -> bool {
        self.codes.contains(&code)
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
pub(super) fn classify(purpose: Purpose, answer: &Refusal, retry_after: Option<Duration>) -> Kind {
    if answer.has(Code::ManifestBlobUnknown) {
        return match answer.status.as_u16() {
            // docker-registry answers 500 with this code for layers it will never take.
            500..=599 => Kind::Invalid,
            _ => Kind::BlobUnknown(answer.unknown_blobs.clone()),
        };
    }
    if answer.has(Code::TagImmutable) {
        return Kind::Immutable;
    }
    if answer.has(Code::TooManyRequests) {
        return Kind::RateLimited(retry_after);
    }
    match (answer.status.as_u16(), purpose) {
        // What a token service lacks says nothing about what the registry has.
        (404 | 405 | 410 | 413 | 415 | 501, Purpose::Token) => Kind::Invalid,
        (429, _) => Kind::RateLimited(retry_after),
        (503, _) if retry_after.is_some() => Kind::RateLimited(retry_after),
        (401, _) => Kind::Unauthorized,
        // public.ecr.aws says 400 where a token has run out.
        (400, _) if answer.has(Code::Denied) => Kind::Unauthorized,
        (403, _) => Kind::Denied,
        (400 | 404 | 410, Purpose::Session)
            if !answer.has(Code::DigestInvalid) && !answer.has(Code::SizeInvalid) =>
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;

    fn answer(status: u16, body: &str) -> Refusal {
        Refusal::parse(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &Redactor::default())
    }

    fn kind(purpose: Purpose, status: u16, body: &str) -> Kind {
        classify(purpose, &answer(status, body), None)
    }

    fn told(refusal: Refusal) -> String {
        Cause::Answer(Box::new(refusal.into_answer(None))).shown(&Redactor::default())
    }

    #[test]
    fn each_answer_has_one_meaning() {
        use Purpose::*;
        let unknown = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":{"digest":"DIGEST"}}]}"#;
        let digest = Digest::of(crate::image::reference::Algorithm::Sha256, b"x");
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
            (ManifestPut, 400, unknown.clone(), Kind::BlobUnknown(vec![digest])),
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
        let told = |body: &str| told(answer(400, body));
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

    #[test]
    fn some_servers_say_what_they_want_in_words_alone() {
        let page = |title: &str| answer(400, &format!("<html><head><title>400 {title}</title></head>")).said;
        assert_eq!(page("No required SSL certificate was sent"), Some(Said::WantsCertificate));
        assert_eq!(page("The SSL certificate error"), Some(Said::WantsCertificate));
        assert_eq!(page("The plain HTTP request was sent to HTTPS port"), Some(Said::WantsTls));
        assert_eq!(
            answer(400, "Client sent an HTTP request to an HTTPS server.\n").said,
            Some(Said::WantsTls)
        );
        let amazon = "The repository with name 'a' does not exist in the registry with id '1'";
        let amazon = format!(r#"{{"errors":[{{"code":"NAME_UNKNOWN","message":"{amazon}"}}]}}"#);
        assert_eq!(answer(404, &amazon).said, Some(Said::IsAmazon));
        assert_eq!(page("Bad Request"), None);
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
                let answer = Refusal::parse(StatusCode::BAD_REQUEST, body, &Redactor::default());
                let _ = classify(Purpose::Manifest, &answer, None);
                let told = told(answer);
                // Each character may be written as an escape.
                proptest::prop_assert!(told.chars().count() <= 300 * 10 + 10, "{}", told.len());
                proptest::prop_assert!(!told.chars().any(char::is_control));
            }
        }
    }
}
