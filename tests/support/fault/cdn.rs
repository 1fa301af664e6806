//! Redirects to a storage host with signed URLs that run out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Fault;
use crate::support::net::call::Call;
use crate::support::net::reply::Reply;
use crate::support::net::{Host, Plain, Service, Shared};
use crate::support::registry::store::Store;

/// Where a request is sent on to.
#[derive(Clone)]
pub struct Redirect {
    target: Target,
    status: u16,
    uses: Option<usize>,
    ttl: Option<Duration>,
    get_only: bool,
}

#[derive(Clone)]
enum Target {
    Cdn(String),
    Url(String),
    Host(String),
}

impl Fault {
    /// To storage, with a signed URL.
    pub fn redirect(cdn: &Plain) -> Redirect {
        Redirect::new(Target::Cdn(cdn.url()))
    }

    /// To the same path at another host.
    pub fn redirect_to_host(url: &str) -> Redirect {
        Redirect::new(Target::Host(url.to_owned()))
    }

    /// To any URL or path, which may be a trap.
    pub fn redirect_to(url: &str) -> Redirect {
        Redirect::new(Target::Url(url.to_owned()))
    }
}

/// The same path and query elsewhere.
fn there(url: &str, call: &Call) -> String {
    let query = call.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
    format!("{url}{}{query}", call.path)
}

impl Redirect {
    fn new(target: Target) -> Self {
        Self { target, status: 307, uses: None, ttl: None, get_only: false }
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The URL is good for so many requests.
    pub fn uses(mut self, uses: usize) -> Self {
        self.uses = Some(uses);
        self
    }

    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The signature covers the method, as in S3: HEAD is answered 403.
    pub fn get_only(mut self) -> Self {
        self.get_only = true;
        self
    }

    pub(super) fn reply(&self, host: &Host, call: &Call) -> Reply {
        let location = match &self.target {
            Target::Url(url) => url.clone(),
            Target::Host(url) => there(url, call),
            Target::Cdn(base) => match self.sign(host, call) {
                Some(signature) => format!(
                    "{base}/storage/{}?X-Amz-Expires=1200&X-Amz-Signature={signature}",
                    call.reference
                ),
                None => return Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            },
        };
        Reply::new(self.status).with("Location", location)
    }

    fn sign(&self, host: &Host, call: &Call) -> Option<String> {
        let (store, repository) = match &host.service {
            Service::Registry(service) => (service.store.clone(), call.repository.clone()),
            // A storage host that passes the request on to another.
            Service::Cdn(cdn) => cdn.origin(call)?,
            _ => return None,
        };
        Some(host.net.signatures.add(Signed {
            store,
            repository,
            uses: self.uses,
            expires: self.ttl.map(|ttl| Instant::now() + ttl),
            get_only: self.get_only,
        }))
    }
}

impl From<Redirect> for Fault {
    fn from(redirect: Redirect) -> Self {
        Self::Redirect(redirect)
    }
}

struct Signed {
    store: Arc<Store>,
    repository: String,
    uses: Option<usize>,
    expires: Option<Instant>,
    get_only: bool,
}

#[derive(Default)]
pub struct Signatures(Mutex<HashMap<String, Signed>>);

impl Signatures {
    fn add(&self, signed: Signed) -> String {
        let mut all = self.0.lock().expect("nothing panics here");
        let signature = format!("s1gnature{:06}", all.len() + 1);
        all.insert(signature.clone(), signed);
        signature
    }
}

/// The storage host.
pub struct Cdn(Arc<Shared>);

impl Cdn {
    pub fn new(net: Arc<Shared>) -> Self {
        Self(net)
    }

    fn origin(&self, call: &Call) -> Option<(Arc<Store>, String)> {
        let all = self.0.signatures.0.lock().expect("nothing panics here");
        let signed = all.get(&call.param("X-Amz-Signature")?)?;
        Some((signed.store.clone(), signed.repository.clone()))
    }

    pub fn answer(&self, call: &Call) -> Reply {
        if call.headers.contains_key("authorization") {
            let message = "Only one auth mechanism allowed";
            return xml(400, "InvalidArgument", message);
        }
        match self.admit(call) {
            Ok((store, repository)) if call.reference.contains(':') => {
                let blob = store.blob_reply(&repository, call);
                match blob.status {
                    404 => store.manifest_reply(&repository, call),
                    _ => blob,
                }
            }
            Ok((store, repository)) => store.manifest_reply(&repository, call),
            Err(refusal) => refusal,
        }
    }

    fn admit(&self, call: &Call) -> Result<(Arc<Store>, String), Reply> {
        let mut all = self.0.signatures.0.lock().expect("nothing panics here");
        let signature = call.param("X-Amz-Signature").unwrap_or_default();
        let signed = all.get_mut(&signature);
        let signed = signed.ok_or_else(|| xml(403, "AccessDenied", "Access Denied"))?;
        if signed.get_only && call.method != "GET" {
            return Err(xml(403, "SignatureDoesNotMatch", "The method was not signed"));
        }
        let late = signed.expires.is_some_and(|at| Instant::now() >= at);
        if late || signed.uses == Some(0) {
            return Err(xml(403, "AccessDenied", "Request has expired"));
        }
        signed.uses = signed.uses.map(|uses| uses - 1);
        Ok((signed.store.clone(), signed.repository.clone()))
    }
}

fn xml(status: u16, code: &str, message: &str) -> Reply {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Reply::new(status).with("Content-Type", "application/xml").bytes(text)
}
