//! What the tests stand on: generated image content, an in-process registry with scripted faults,
//! child processes of real registries, and a reader that shares no code with the program.
#![allow(dead_code, unused_imports)]

pub mod containerd;
pub mod content;
pub mod digest;
pub mod fault;
pub mod journal;
pub mod line;
pub mod net;
pub mod nginx;
pub mod process;
pub mod proxy;
pub mod reader;
pub mod registry;
pub mod tls;

pub use content::{Blob, Content, Image, Kind};
pub use fault::{Cut, Fault, Rule, any, on};
pub use journal::{Journal, Op};
pub use net::Net;
pub use registry::{Auth, Keep, Registry};

/// Any error will do in a test: it is only ever shown.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The crypto provider is process-wide; whoever comes first installs it.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A plain client: follows no redirects, trusts only the given PEM certificate.
pub fn http_client(ca_pem: Option<&str>) -> reqwest::Client {
    install_crypto();
    let certificates =
        ca_pem.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).expect("the test CA is valid PEM"));
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_only(certificates)
        .build()
        .expect("a client with fixed options")
}
