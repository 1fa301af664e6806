//! Whom to trust, and the HTTP clients that follow from it: one for each way to speak to a host.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Certificate, Client, ClientBuilder, Url};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Largest certificate bundle that is read, in bytes; the public roots together are 0.2 MB.
const BUNDLE_MAX: u64 = 16 << 20;

/// Certificates beyond the system's.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    authorities: Vec<Certificate>,
}

impl Trust {
    /// Reads a PEM bundle of certificate authorities.
    ///
    /// # Errors
    /// A file that cannot be read or holds no certificate: an empty bundle would trust nobody, or worse, be ignored.
    pub fn with_bundle(mut self, path: &Path) -> Result<Self> {
        self.authorities.append(&mut read_bundle(path)?);
        Ok(self)
    }

    /// `SSL_CERT_FILE` replaces the system's bundle, in the TLS library. One that cannot be read would be passed
    /// over there in silence, so it is read here first.
    pub fn check_environment() -> Result<()> {
        if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()) {
            read_bundle(&PathBuf::from(path)).context("SSL_CERT_FILE names no usable bundle")?;
        }
        Ok(())
    }
}

fn read_bundle(path: &Path) -> Result<Vec<Certificate>> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    ensure!(size <= BUNDLE_MAX, "{shown} is too large for a certificate bundle ({size} bytes)");
    let pem = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{shown} is not PEM"))?;
    // The TLS library passes over what it cannot parse, and then trusts nobody.
    let usable = |der: &&CertificateDer<'_>| RootCertStore::empty().add((*der).clone()).is_ok();
    let usable: Vec<_> = certificates.iter().filter(usable).map(|der| Certificate::from_der(der)).collect();
    if usable.is_empty() {
        bail!("{shown} holds no certificate that can be used (expected PEM: -----BEGIN CERTIFICATE-----)");
    }
    usable.into_iter().collect::<reqwest::Result<_>>().with_context(|| format!("{shown} cannot be used"))
}

/// How a connection is made; each has a client with a pool of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Profile {
    security: Security,
    /// Loopback is this very machine: no proxy can reach it.
    direct: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Security {
    /// No TLS, so no roots need to be loaded (10 ms and more).
    Plain,
    Verified,
    /// Any certificate will do: the user said `--insecure`, for the target.
    Unverified,
}

/// HTTP clients by profile, made when first needed.
#[derive(Debug)]
pub struct Clients {
    trust: Trust,
    connect: Duration,
    made: Mutex<HashMap<Profile, Client>>,
}

impl Clients {
    pub fn new(trust: Trust, connect: Duration) -> Self {
        // reqwest is built without a cryptography provider of its own; a second call finds it there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { trust, connect, made: Mutex::new(HashMap::new()) }
    }

    /// The client for `url`. `unverified` accepts any certificate.
    ///
    /// # Errors
    /// The TLS library cannot be set up, e.g. for a malformed certificate.
    pub fn client(&self, url: &Url, unverified: bool) -> reqwest::Result<Client> {
        let security = match (url.scheme(), unverified) {
            ("http", _) => Security::Plain,
            (_, true) => Security::Unverified,
            (_, false) => Security::Verified,
        };
        let profile = Profile { security, direct: is_loopback(url) };
        let mut made = self.made.lock().expect("no code panics while it holds this lock");
        if let Some(client) = made.get(&profile) {
            return Ok(client.clone());
        }
        let client = self.build(profile)?;
        made.insert(profile, client.clone());
        Ok(client)
    }

    fn build(&self, profile: Profile) -> reqwest::Result<Client> {
        match profile.security {
            Security::Plain => self.builder(profile).tls_certs_only([]).build(),
            Security::Unverified => {
                self.builder(profile).tls_certs_only([]).tls_danger_accept_invalid_certs(true).build()
            }
            Security::Verified => {
                let system = self.builder(profile).tls_certs_merge(self.trust.authorities.clone()).build();
                // A machine without any root (an empty container) gets the public ones that we carry.
                system.or_else(|_| self.builder(profile).tls_certs_only(self.carried_roots()).build())
            }
        }
    }

    fn builder(&self, profile: Profile) -> ClientBuilder {
        let builder = Client::builder()
            .user_agent(concat!("mirror-images/", env!("CARGO_PKG_VERSION")))
            // HTTP/1.1 moves blobs about twice as fast as HTTP/2, whose flow control costs CPU and round trips.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect)
            .tcp_keepalive(Duration::from_secs(30));
        if profile.direct { builder.no_proxy() } else { builder }
    }

    fn carried_roots(&self) -> Vec<Certificate> {
        let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        let public = public.iter().filter_map(|der| Certificate::from_der(der).ok());
        public.chain(self.trust.authorities.iter().cloned()).collect()
    }
}

/// Whether `url` is on this machine, by its literal address or by the name that means it.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_bundle_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "no certificate here\n").unwrap();
        let told = format!("{:#}", Trust::default().with_bundle(&path).unwrap_err());
        assert!(told.contains("holds no certificate"), "{told}");
        let told = format!("{:#}", Trust::default().with_bundle(&dir.path().join("none")).unwrap_err());
        assert!(told.contains("cannot read"), "{told}");
    }

    #[test]
    fn each_way_to_speak_has_one_client() {
        let clients = Clients::new(Trust::default(), Duration::from_secs(1));
        for (url, unverified) in
            [("http://127.0.0.1:1/", false), ("https://127.0.0.1:1/", true), ("https://example.com/", false)]
        {
            clients.client(&url.parse().unwrap(), unverified).unwrap();
            clients.client(&url.parse().unwrap(), unverified).unwrap();
        }
        assert_eq!(clients.made.lock().unwrap().len(), 3);
    }
}
