//! An answer before it goes out, in a form that faults can change.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::call::Call;
use super::serve::Busy;
use super::wire::Control;
use crate::support::fault::body::{BodyPlan, Faulty};
use crate::support::journal::Record;

pub type Outgoing = UnsyncBoxBody<Bytes, io::Error>;
pub type Chunks = Box<dyn Iterator<Item = Bytes> + Send>;

pub struct Reply {
    pub status: u16,
    pub headers: Box<HeaderMap>,
    pub body: Payload,
    pub plan: Box<BodyPlan>,
}

pub enum Payload {
    Bytes(Bytes),
    Chunks { chunks: Chunks, length: u64 },
}

impl Payload {
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Chunks { length, .. } => *length,
        }
    }

    pub fn into_chunks(self) -> Chunks {
        match self {
            Self::Bytes(bytes) => Box::new(std::iter::once(bytes).filter(|b| !b.is_empty())),
            Self::Chunks { chunks, .. } => chunks,
        }
    }
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Box::default(), body: Payload::Bytes(Bytes::new()), plan: Box::default() }
    }

    pub fn text(status: u16, text: &str) -> Self {
        let reply = Self::new(status).with("Content-Type", "text/plain; charset=utf-8");
        reply.bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The error form of the distribution specification.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::error_detail(status, code, message, serde_json::Value::Null)
    }

    pub fn error_detail(
        status: u16,
        code: &str,
        message: &str,
        detail: impl Into<serde_json::Value>,
    ) -> Self {
        let error = json!({ "code": code, "message": message, "detail": detail.into() });
        Self::json(status, &json!({ "errors": [error] }))
    }

    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        let reply = Self::new(status).with("Content-Type", "application/json; charset=utf-8");
        reply.bytes(format!("{value}\n"))
    }

    /// Sets a header; an invalid value is a mistake in the test.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.to_string().as_bytes()).expect("a header value");
        self.headers.insert(name, value);
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, value);
        self
    }

    pub fn bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Payload::Bytes(bytes.into());
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Settles the length, and drops the body where the method forbids one.
    pub(super) fn finish(mut self, call: &Call) -> Self {
        let framed = self.headers.contains_key("content-length");
        let bodiless = matches!(self.status, 204 | 304);
        if !framed && !bodiless && !self.plan.chunked {
            self.set("Content-Length", self.body.length());
        }
        if call.method == "HEAD" || bodiless {
            self.body = Payload::Bytes(Bytes::new());
            self.plan = Box::default();
        }
        self
    }

    pub(super) fn into_response(
        self,
        record: Arc<Record>,
        control: Arc<Control>,
        busy: Busy,
    ) -> Response<Outgoing> {
        let plain = self.plan.is_plain();
        if plain && self.body.length() == 0 {
            record.finish();
        }
        let stream =
            Counted { inner: Faulty::new(self.body.into_chunks(), *self.plan, control), record, _busy: busy };
        let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
        *response.status_mut() = hyper::StatusCode::from_u16(self.status).expect("a status");
        *response.headers_mut() = *self.headers;
        response
    }
}

/// Counts what leaves, and notes the end.
struct Counted {
    inner: Faulty,
    record: Arc<Record>,
    _busy: Busy,
}

impl Stream for Counted {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(Pin::new(&mut self.inner).poll_next(cx));
        match &next {
            Some(Ok(bytes)) => {
                let n = bytes.len() as u64;
                self.record.update(|entry| entry.written += n);
                if self.inner.is_done() {
                    self.record.finish();
                }
            }
            Some(Err(_)) => {}
            None => self.record.finish(),
        }
        Poll::Ready(next.map(|item| item.map(Frame::data)))
    }
}
