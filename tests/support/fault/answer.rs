//! Scripted answers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::json;

use super::Fault;
use crate::support::net::reply::Reply;

/// A whole answer. Made from `Fault::Status(n)` by adding to it.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<(String, Bytes)>,
    /// Answers after so many bytes of the request body; `None` reads it all.
    pub(super) early: Option<Early>,
}

/// What happens to a client that is still sending when the answer comes.
#[derive(Clone, Copy, Debug)]
pub struct Early {
    pub read: u64,
    /// Goes on reading for so long, which lets the client see the answer.
    pub linger: Duration,
    pub reset: bool,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None, early: None }
    }

    pub(super) fn reply(&self) -> Reply {
        let mut reply = match &self.body {
            Some((kind, bytes)) => Reply::new(self.status).with("Content-Type", kind).bytes(bytes.clone()),
            None if self.status >= 400 => Reply::error(self.status, code(self.status), "scripted by a test"),
            None => Reply::new(self.status),
        };
        for (name, value) in &self.headers {
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            let value = hyper::header::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            // Appended, since doubled headers are a fault too.
            match name.as_str() {
                "content-type" | "content-length" => reply.headers.insert(name, value).is_some(),
                _ => reply.headers.append(name, value),
            };
        }
        reply
    }
}

fn code(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        404 => "NOT_FOUND",
        405 => "UNSUPPORTED",
        413 => "SIZE_INVALID",
        429 => "TOOMANYREQUESTS",
        500.. => "UNKNOWN",
        _ => "INVALID",
    }
}

/// Builders that turn `Fault::Status` into a whole answer.
impl Fault {
    fn answer(self, change: impl FnOnce(&mut Answer)) -> Self {
        let mut answer = match self {
            Self::Status(status) => Answer::new(status),
            Self::Answer(answer) => answer,
            _ => panic!("only an answer has headers and a body"),
        };
        change(&mut answer);
        Self::Answer(answer)
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.answer(|a| a.headers.push((name.to_owned(), value.to_owned())))
    }

    pub fn body(self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.answer(|a| a.body = Some((content_type.to_owned(), body.into())))
    }

    pub fn html(self, body: &'static str) -> Self {
        self.body("text/html", body)
    }

    /// A registry error with this code and message.
    pub fn error(self, code: &str, message: &str) -> Self {
        let value = json!({ "errors": [{ "code": code, "message": message }] });
        self.body("application/json", value.to_string())
    }

    pub fn error_detail(self, code: &str, message: &str, detail: &str) -> Self {
        let error = json!({ "code": code, "message": message, "detail": detail });
        self.body("application/json", json!({ "errors": [error] }).to_string())
    }

    pub fn retry_after(self, seconds: &str) -> Self {
        self.header("Retry-After", seconds)
    }

    pub fn retry_after_date(self, from_now: Duration) -> Self {
        let date = httpdate::fmt_http_date(SystemTime::now() + from_now);
        self.header("Retry-After", &date)
    }

    /// Answers when `read` bytes of the request body are in, and closes. With `linger` zero the
    /// kernel resets the connection, since there is unread data.
    pub fn early(self, read: u64, linger: Duration) -> Self {
        let reset = false;
        self.answer(|a| a.early = Some(Early { read, linger, reset }))
    }

    /// The same with a sure reset.
    pub fn early_reset(self, read: u64) -> Self {
        let (linger, reset) = (Duration::ZERO, true);
        self.answer(|a| a.early = Some(Early { read, linger, reset }))
    }
}
