//! Whom to trust, and the HTTP clients that follow from it: one for each way to speak to a host.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Url};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::address::{Allowed, Resolver};
use super::ahead::Ahead;
use super::proxies::{Proxies, Proxy};
use crate::image::reference::Host;
use crate::util::input;
use crate::util::open_files::{self, PLENTY};

/// Largest certificate bundle that is read, in bytes; the public roots together are 0.2 MB.
const BUNDLE_MAX: u64 = 16 << 20;

/// Where docker and podman users put the certificates of one registry, in a directory of its name
/// (containers-certs.d(5)).
const DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Certificates beyond the system's.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    authorities: Vec<Certificate>,
    /// Directories that have a directory for each registry.
    directories: Vec<PathBuf>,
}

/// What the user has put down for one registry.
#[derive(Debug, Default)]
struct HostTrust {
    authorities: Vec<Certificate>,
    /// Our own certificate and its key, where the registry wants to see one.
    identity: Option<Identity>,
}

impl HostTrust {
    fn identify(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.identity {
            Some(identity) => builder.identity(identity.clone()),
            None => builder,
        }
    }
}

impl Trust {
    /// The directories of docker and podman users, the user's own first.
    #[must_use]
    pub fn with_usual_directories(mut self) -> Self {
        let own = std::env::home_dir().map(|home| home.join(".config/containers/certs.d"));
        self.directories = own.into_iter().chain(DIRECTORIES.map(PathBuf::from)).collect();
        self
    }

    fn directory(&self, host: &Host) -> Option<PathBuf> {
        self.directories.iter().map(|directory| directory.join(host.as_str())).find(|path| path.is_dir())
    }

    fn has_directory(&self, host: &Host) -> bool {
        self.directory(host).is_some()
    }

    /// Reads the directory of `host`: `*.crt` are authorities, a `*.cert` with a `*.key` beside it is our own.
    fn for_host(&self, host: &Host) -> Result<HostTrust> {
        let Some(directory) = self.directory(host) else { return Ok(HostTrust::default()) };
        let listing =
            std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let mut files: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let mut trust = HostTrust::default();
        for file in files {
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => trust.authorities.append(&mut read_bundle(&file)?),
                Some("cert") => trust.identity = Some(read_identity(&file)?),
                Some("key") if !file.with_extension("cert").exists() => {
                    bail!("{} has no certificate beside it (a .cert of the same name)", file.display());
                }
                _ => {}
            }
        }
        Ok(trust)
    }

    /// Reads a PEM bundle of certificate authorities.
    ///
    /// # Errors
    /// A file that cannot be read or holds no certificate: an empty bundle would trust nobody, or worse, be ignored.
    pub fn with_bundle(mut self, path: &Path) -> Result<Self> {
        self.authorities.append(&mut read_bundle(path)?);
        Ok(self)
    }

    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's authorities, in the TLS library. There, what cannot be
    /// read is passed over in silence, and whoever is left without any trusts more than was asked for; so it is read
    /// here first.
    ///
    /// # Errors
    /// The file, or all of the directories without a file, hold no certificate.
    pub fn check_environment() -> Result<()> {
        let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
        if let Some(path) = named("SSL_CERT_FILE") {
            read_bundle(&PathBuf::from(path)).context("SSL_CERT_FILE names no usable bundle")?;
        } else if let Some(directories) = named("SSL_CERT_DIR") {
            let mut files =
                std::env::split_paths(&directories).filter_map(|path| path.read_dir().ok()).flatten();
            let usable = files.any(|file| file.is_ok_and(|file| read_bundle(&file.path()).is_ok()));
            ensure!(usable, "SSL_CERT_DIR names no directory with a certificate that can be used");
        }
        Ok(())
    }
}

fn read_identity(certificate: &Path) -> Result<Identity> {
    let key = certificate.with_extension("key");
    ensure!(key.exists(), "{} has no key beside it (a .key of the same name)", certificate.display());
    let read = |path: &Path| {
        input::read_bytes(path, BUNDLE_MAX).with_context(|| format!("cannot read {}", path.display()))
    };
    let pem = [read(certificate)?, b"\n".to_vec(), read(&key)?].concat();
    Identity::from_pem(&pem).with_context(|| format!("{} and its key are of no use", certificate.display()))
}

fn read_bundle(path: &Path) -> Result<Vec<Certificate>> {
    let shown = path.display();
    let pem = input::read_bytes(path, BUNDLE_MAX).with_context(|| format!("cannot read {shown}"))?;
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

/// How a connection is made; each way has a client with a pool of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Profile {
    security: Security,
    proxy: Option<Proxy>,
    /// Where the host may be, if the user did not name it.
    allowed: Option<Allowed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Security {
    /// No TLS, so no roots need to be loaded (10 ms and more).
    Plain,
    Verified,
    /// Verified with what the user has put down for this registry.
    VerifiedAs(Host),
    /// The same for whoever this registry points to, such as its token service: our own certificate is not for them.
    VerifiedBy(Host),
    /// Any certificate will do: the user said `--insecure`, for the target.
    Unverified(Host),
}

/// What is asked of a connection, besides its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partner<'a> {
    /// A registry that the user named.
    Registry { host: &'a Host, unverified: bool },
    /// Wherever a registry points to.
    Stranger { of: &'a Host, allowed: Allowed },
}

/// A registry's certificate is not to be verified, and then this proxy's before it would not be either.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of the proxy {0} would not be verified either")]
pub(super) struct ProxyUnverified(pub String);

/// HTTP clients by profile, made when first needed.
#[derive(Debug)]
pub struct Clients {
    trust: Trust,
    connect: Duration,
    pub(super) proxies: Arc<Proxies>,
    made: Mutex<HashMap<Profile, (Client, Ahead)>>,
    /// The public authorities, where they had to stand in for the system's.
    carried: OnceLock<Vec<Certificate>>,
}

impl Clients {
    pub fn new(trust: Trust, proxies: Arc<Proxies>, connect: Duration) -> Self {
        // reqwest is built without a cryptography provider of its own; a second call finds it there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { trust, connect, proxies, made: Mutex::default(), carried: OnceLock::new() }
    }

    /// The client for `url`.
    ///
    /// # Errors
    /// The TLS library cannot be set up, e.g. for a malformed certificate.
    pub(super) fn client(&self, url: &Url, partner: Partner<'_>) -> Result<Client> {
        self.with_ahead(url, partner).map(|(client, _)| client)
    }

    /// The client for `url`, and the connections that were made ahead for it.
    ///
    /// # Errors
    /// As [`Self::client`] has them.
    pub(super) fn with_ahead(&self, url: &Url, partner: Partner<'_>) -> Result<(Client, Ahead)> {
        let (security, allowed) = match (url.scheme(), partner) {
            ("http", Partner::Registry { .. }) => (Security::Plain, None),
            ("http", Partner::Stranger { allowed, .. }) => (Security::Plain, Some(allowed)),
            (_, Partner::Registry { host, unverified: true }) => (Security::Unverified(host.clone()), None),
            (_, Partner::Registry { host, unverified: false }) => {
                let named = self.trust.has_directory(host);
                (if named { Security::VerifiedAs(host.clone()) } else { Security::Verified }, None)
            }
            (_, Partner::Stranger { of, allowed }) => {
                let named = self.trust.has_directory(of);
                (if named { Security::VerifiedBy(of.clone()) } else { Security::Verified }, Some(allowed))
            }
        };
        let proxy = self.proxies.for_url(url).cloned();
        let security = match (security, &proxy) {
            // No TLS for the registry, but for the way to it.
            (Security::Plain, Some(proxy)) if proxy.is_tls() => Security::Verified,
            (Security::Unverified(_), Some(proxy)) if proxy.is_tls() => {
                return Err(ProxyUnverified(proxy.shown()).into());
            }
            (security, _) => security,
        };
        let profile = Profile { security, proxy, allowed };
        let mut made = self.made.lock().expect("no code panics while it holds this lock");
        if let Some(known) = made.get(&profile) {
            return Ok(known.clone());
        }
        let ahead = Ahead::default();
        let client = self.build(&profile, &ahead)?;
        made.insert(profile, (client.clone(), ahead.clone()));
        Ok((client, ahead))
    }

    fn build(&self, profile: &Profile, ahead: &Ahead) -> Result<Client> {
        let builder = || Ok(self.builder(profile)?.connector_layer(ahead.clone()));
        Ok(match &profile.security {
            Security::Plain => builder()?.tls_certs_only([]).build()?,
            Security::Verified => self.verified(builder, &self.trust.authorities)?,
            Security::VerifiedAs(host) => {
                let own = self.trust.for_host(host)?;
                self.verified(|| Ok(own.identify(builder()?)), &self.authorities_with(&own))?
            }
            Security::VerifiedBy(host) => {
                self.verified(builder, &self.authorities_with(&self.trust.for_host(host)?))?
            }
            Security::Unverified(host) => {
                let builder = self.trust.for_host(host)?.identify(builder()?);
                builder.tls_certs_only([]).tls_danger_accept_invalid_certs(true).build()?
            }
        })
    }

    fn authorities_with(&self, own: &HostTrust) -> Vec<Certificate> {
        self.trust.authorities.iter().chain(&own.authorities).cloned().collect()
    }

    /// A client that trusts the system's authorities and these; or the public ones that we carry in place of the
    /// system's, where it has none (an empty container).
    fn verified(
        &self,
        builder: impl Fn() -> reqwest::Result<ClientBuilder>,
        authorities: &[Certificate],
    ) -> reqwest::Result<Client> {
        let system = builder()?.tls_certs_merge(authorities.iter().cloned()).build();
        // Authorities of the user's own hide that the system has none.
        if authorities.is_empty() && system.is_ok() || system_has_authorities() {
            return system;
        }
        let carried = self.carried.get_or_init(|| {
            let carried = carried_authorities();
            tracing::info!(
                "this system has no certificate authorities: trusting the {} public ones that the program carries",
                carried.len()
            );
            carried
        });
        builder()?.tls_certs_only(carried.iter().chain(authorities).cloned()).build()
    }

    /// Whether the system has no authorities, as far as that had to be found out.
    pub(super) fn system_has_none(&self) -> bool {
        self.carried.get().is_some()
    }

    fn builder(&self, profile: &Profile) -> reqwest::Result<ClientBuilder> {
        let mut builder = Client::builder()
            .user_agent(concat!("mirror-images/", env!("CARGO_PKG_VERSION")))
            // HTTP/1.1 moves blobs about twice as fast as HTTP/2, whose flow control costs CPU and round trips.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect)
            .tcp_keepalive(Duration::from_secs(30))
            // How long a transfer may stand still is for its own watchdog: on a thin line the kernel's is too early.
            .tcp_user_timeout(None);
        let proxy = profile.proxy.as_ref().map(|proxy| proxy.host().to_owned());
        builder = builder.dns_resolver(Arc::new(Resolver { allowed: profile.allowed, proxy }));
        let open_files = open_files::raise();
        if open_files < PLENTY {
            builder = builder.pool_max_idle_per_host(usize::try_from(open_files / 32).unwrap_or(1));
        }
        // Without a proxy of ours, the library would look for one in the environment.
        Ok(match &profile.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.url())?),
            None => builder.no_proxy(),
        })
    }
}

/// Whether the TLS library finds any authority on this machine. Found out once: it reads them all for that.
fn system_has_authorities() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| Client::builder().tls_certs_merge([]).build().is_ok())
}

/// Mozilla's, as the library that we carry has them.
fn carried_authorities() -> Vec<Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
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
    fn the_public_authorities_are_carried() {
        let mut store = RootCertStore::empty();
        let carried = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        assert_eq!(store.add_parsable_certificates(carried.iter().cloned()), (carried.len(), 0));
        assert_eq!(carried_authorities().len(), carried.len());
        // Those behind Docker Hub, quay.io, ghcr.io, registry.k8s.io and public.ecr.aws, and the free one.
        for name in
            ["Amazon Root CA 1", "DigiCert Global Root G2", "GTS Root R1", "USERTrust ECC", "ISRG Root X1"]
        {
            let named =
                |der: &&CertificateDer<'_>| der.windows(name.len()).any(|part| part == name.as_bytes());
            assert!(carried.iter().any(|der| named(&der)), "{name}");
        }
    }

    #[test]
    fn each_way_to_speak_has_one_client() {
        let clients = Clients::new(Trust::default(), Arc::default(), Duration::from_secs(1));
        let host: Host = "example.com".parse().unwrap();
        let storage = Partner::Stranger { of: &host, allowed: Allowed { private: true, loopback: false } };
        let named = |unverified| Partner::Registry { host: &host, unverified };
        for (url, partner) in [
            ("http://127.0.0.1:1/", named(false)),
            ("https://127.0.0.1:1/", named(true)),
            ("https://example.com/", named(false)),
            ("https://example.com/", storage),
        ] {
            clients.client(&url.parse().unwrap(), partner).unwrap();
            clients.client(&url.parse().unwrap(), partner).unwrap();
        }
        assert_eq!(clients.made.lock().unwrap().len(), 4);
    }

    #[test]
    fn a_directory_for_a_registry_is_read_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("r.example.com:5000");
        std::fs::create_dir(&directory).unwrap();
        let trust = Trust { directories: vec![home.path().to_owned()], ..Trust::default() };
        let host: Host = "r.example.com:5000".parse().unwrap();
        assert!(trust.has_directory(&host) && !trust.has_directory(&"r.example.com".parse().unwrap()));
        std::fs::write(directory.join("client.key"), "x").unwrap();
        let told = format!("{:#}", trust.for_host(&host).unwrap_err());
        assert!(told.contains("no certificate beside it"), "{told}");
        std::fs::write(directory.join("client.cert"), "x").unwrap();
        let told = format!("{:#}", trust.for_host(&host).unwrap_err());
        assert!(told.contains("of no use"), "{told}");
    }
}
