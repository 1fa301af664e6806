//! Which addresses a registry may send us to.
//!
//! A challenge names a token service, a redirect names a storage host: addresses that a stranger chose. None of them
//! may lead to a machine that only we can reach, such as a cloud's metadata service, unless the registry is itself in
//! such a place. Names are judged by what they resolve to, at the moment of connecting.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dns_lookup::LookupErrorKind;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;

/// How long a registry's own name is looked up only to learn how near it is.
const LOOKUP_MAX: Duration = Duration::from_secs(3);

/// Where Alibaba's, Oracle's and Microsoft's clouds serve metadata, besides the usual link-local address.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum AddressScope {
    Public,
    /// RFC 1918, RFC 6598 and unique local addresses: someone's own network.
    Private,
    /// This machine.
    Loopback,
    /// One cable, where metadata services live; and addresses that are nobody's.
    Never,
}

impl AddressScope {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => Self::of_v4(v4),
                None => Self::of_v6(v6),
            },
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        let [a, b, ..] = v4.octets();
        match (a, b) {
            (127, _) => AddressScope::Loopback,
            _ if METADATA.contains(&v4) => AddressScope::Never,
            (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) => AddressScope::Private,
            (0, _) | (169, 254) | (224..=255, _) => AddressScope::Never,
            _ => AddressScope::Public,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        // AWS serves metadata at a unique local address.
        if v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
            || v6.is_unspecified()
            || v6.is_multicast()
        {
            return AddressScope::Never;
        }
        match v6.segments()[0] {
            _ if v6.is_loopback() => AddressScope::Loopback,
            0xfe80..=0xfebf => AddressScope::Never,
            0xfc00..=0xfdff | 0xfec0..=0xfeff => AddressScope::Private,
            _ => AddressScope::Public,
        }
    }
}

/// An IPv4 address in an IPv6 one: mapped, compatible, behind NAT64 (of the world's prefix or a local one), or 6to4.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let v4 = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, ..] => Some(v4),
        [0x2002, ..] => Some(Ipv4Addr::from((u32::from(b) << 16) | u32::from(c))),
        [0, 0, 0, 0, 0, 0] if u32::from(v4) > 1 => Some(v4),
        _ => None,
    }
}

/// What a host that the user did not name may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Allowed {
    pub private: bool,
    pub loopback: bool,
}

impl Allowed {
    /// A token service gets the login: it is as near as the registry itself, or public.
    pub(super) fn as_token_service(registry: AddressScope) -> Self {
        Self { private: registry != AddressScope::Public, loopback: registry == AddressScope::Loopback }
    }

    /// Storage gets no login, and is at times on a private network beside a public registry.
    pub(super) fn as_storage(registry: AddressScope) -> Self {
        Self { private: true, loopback: registry == AddressScope::Loopback }
    }

    pub(super) fn takes(self, address: IpAddr) -> bool {
        match AddressScope::of(address) {
            AddressScope::Public => true,
            AddressScope::Private => self.private,
            AddressScope::Loopback => self.loopback,
            AddressScope::Never => false,
        }
    }

    /// Whether a URL whose host is an address in itself is allowed; names are judged by [`Resolver`].
    pub(super) fn takes_literal(self, url: &Url) -> bool {
        match url.host() {
            Some(url::Host::Ipv4(v4)) => self.takes(v4.into()),
            Some(url::Host::Ipv6(v6)) => self.takes(v6.into()),
            Some(url::Host::Domain(_)) | None => true,
        }
    }
}

/// Looks names up; those that a stranger chose only to what is allowed.
#[derive(Debug)]
pub(super) struct Resolver {
    /// What the host may be, if the user did not name it.
    pub allowed: Option<Allowed>,
    /// The proxy in between, which the user named; it is where it is.
    pub proxy: Option<String>,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone)]
pub(super) enum Unresolved {
    /// It leads only to where a stranger may not send us.
    Forbidden,
    /// It was not found; `passing` where that says nothing of the name.
    Failed { passing: bool, detail: String },
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("the address is not allowed"),
            Self::Failed { detail, .. } => f.write_str(detail),
        }
    }
}

impl std::error::Error for Unresolved {}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let trusted = self.proxy.as_deref() == Some(name.as_str());
        let allowed = self.allowed.filter(|_| !trusted);
        Box::pin(async move {
            let found = look_up(name.as_str().to_owned()).await?;
            let good: Vec<SocketAddr> = found
                .into_iter()
                .filter(|ip| allowed.is_none_or(|allowed| allowed.takes(*ip)))
                .map(|ip| SocketAddr::new(ip, 0))
                .collect();
            if good.is_empty() {
                return Err(Box::from(Unresolved::Forbidden));
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// The addresses of `name`, as the system has them.
///
/// The standard library gives no more of a failure than the C library's text for it, which is another in each C
/// library; its code says what can be decided on (RFC 3493, section 6.1).
async fn look_up(name: String) -> Result<Vec<IpAddr>, Unresolved> {
    let looked_up = tokio::task::spawn_blocking(move || {
        let found = dns_lookup::lookup_host(&name).map(Iterator::collect);
        found.map_err(|error| {
            let passing = may_pass(error.kind());
            Unresolved::Failed { passing, detail: std::io::Error::from(error).to_string() }
        })
    });
    // Cancelled with the runtime alone.
    looked_up.await.unwrap_or(Err(Unresolved::Failed { passing: true, detail: "interrupted".to_owned() }))
}

/// Whether the same look-up may succeed a little later: a name server did not answer, or the system could not ask one.
fn may_pass(failure: LookupErrorKind) -> bool {
    match failure {
        LookupErrorKind::Again | LookupErrorKind::System | LookupErrorKind::Memory => true,
        // EAI_FAIL, EAI_NONAME, EAI_NODATA and all that is wrong with the question.
        _ => false,
    }
}

/// How near `url`'s host is, by all of its addresses.
pub(super) async fn scope_of_host(url: &Url) -> AddressScope {
    let addresses: Vec<IpAddr> = match url.host() {
        Some(url::Host::Ipv4(v4)) => vec![v4.into()],
        Some(url::Host::Ipv6(v6)) => vec![v6.into()],
        // Behind a proxy there may be nobody to ask for the names of the world.
        Some(url::Host::Domain(name)) => match timeout(LOOKUP_MAX, look_up(name.to_owned())).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => Vec::new(),
        },
        None => Vec::new(),
    };
    farthest(addresses)
}

/// How near a host with these addresses is: what counts is the farthest of them. Whoever owns a name may give it an
/// address of this machine besides, which must not open this machine to where that host points.
fn farthest(addresses: impl IntoIterator<Item = IpAddr>) -> AddressScope {
    let all: Vec<AddressScope> = addresses.into_iter().map(AddressScope::of).collect();
    match () {
        () if all.is_empty() || all.contains(&AddressScope::Public) => AddressScope::Public,
        () if all.iter().all(|scope| *scope == AddressScope::Loopback) => AddressScope::Loopback,
        () => AddressScope::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_in_every_disguise() {
        let table = [
            ("8.8.8.8", AddressScope::Public),
            ("10.1.2.3", AddressScope::Private),
            ("172.16.0.1", AddressScope::Private),
            ("172.32.0.1", AddressScope::Public),
            ("192.168.1.1", AddressScope::Private),
            ("100.64.0.1", AddressScope::Private),
            ("127.0.0.1", AddressScope::Loopback),
            ("169.254.169.254", AddressScope::Never),
            ("100.100.100.200", AddressScope::Never),
            ("168.63.129.16", AddressScope::Never),
            ("192.0.0.192", AddressScope::Never),
            ("64:ff9b:1::a9fe:a9fe", AddressScope::Never),
            ("2002:a9fe:a9fe::1", AddressScope::Never),
            ("2002:808:808::1", AddressScope::Public),
            ("0.0.0.0", AddressScope::Never),
            ("255.255.255.255", AddressScope::Never),
            ("::1", AddressScope::Loopback),
            ("::ffff:169.254.169.254", AddressScope::Never),
            ("::ffff:a9fe:a9fe", AddressScope::Never),
            ("64:ff9b::a9fe:a9fe", AddressScope::Never),
            ("::127.0.0.1", AddressScope::Loopback),
            ("::ffff:10.0.0.1", AddressScope::Private),
            ("fe80::1", AddressScope::Never),
            ("fd00:ec2::254", AddressScope::Never),
            ("fd12::1", AddressScope::Private),
            ("2606:4700::1", AddressScope::Public),
        ];
        for (address, expected) in table {
            assert_eq!(AddressScope::of(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_token_service_is_as_near_as_the_registry_or_public() {
        let takes =
            |registry, address: &str| Allowed::as_token_service(registry).takes(address.parse().unwrap());
        assert!(takes(AddressScope::Public, "8.8.8.8") && takes(AddressScope::Private, "8.8.8.8"));
        assert!(!takes(AddressScope::Public, "10.0.0.1") && takes(AddressScope::Private, "10.0.0.1"));
        assert!(!takes(AddressScope::Private, "127.0.0.1") && takes(AddressScope::Loopback, "127.0.0.1"));
        for registry in [AddressScope::Public, AddressScope::Private, AddressScope::Loopback] {
            assert!(!takes(registry, "169.254.169.254"));
        }
    }

    #[test]
    fn a_host_is_as_near_as_the_farthest_of_its_addresses() {
        let table: &[(&[&str], AddressScope)] = &[
            (&["8.8.8.8", "127.0.0.1"], AddressScope::Public),
            (&["::1", "2606:4700::1"], AddressScope::Public),
            (&["10.0.0.1", "127.0.0.1"], AddressScope::Private),
            (&["127.0.0.1", "169.254.169.254"], AddressScope::Private),
            (&["10.0.0.1", "8.8.8.8"], AddressScope::Public),
            (&["127.0.0.1", "::1"], AddressScope::Loopback),
            (&["169.254.1.1"], AddressScope::Private),
            (&[], AddressScope::Public),
        ];
        for (addresses, expected) in table {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            assert_eq!(farthest(addresses), *expected);
        }
    }

    #[test]
    fn odd_ways_to_write_an_address_are_seen_through() {
        let public = Allowed { private: false, loopback: false };
        for url in ["http://2852039166/", "http://0xa9fea9fe/", "http://127.1/", "http://[::ffff:127.0.0.1]/"]
        {
            assert!(!public.takes_literal(&url.parse().unwrap()), "{url}");
        }
    }

    async fn resolve(resolver: Resolver, name: &str) -> Result<usize, Unresolved> {
        let found = resolver.resolve(name.parse().unwrap()).await;
        found.map(Iterator::count).map_err(|error| error.downcast_ref::<Unresolved>().unwrap().clone())
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_not_connected_to() {
        let public = Some(Allowed { private: false, loopback: false });
        let proxy = |name: &str| Some(name.to_owned());
        let refused = resolve(Resolver { allowed: public, proxy: None }, "localhost").await;
        assert!(matches!(refused, Err(Unresolved::Forbidden)));
        let refused = resolve(Resolver { allowed: public, proxy: proxy("another") }, "localhost").await;
        assert!(matches!(refused, Err(Unresolved::Forbidden)));
        assert!(resolve(Resolver { allowed: public, proxy: proxy("localhost") }, "localhost").await.is_ok());
        assert!(resolve(Resolver { allowed: None, proxy: None }, "localhost").await.is_ok());
    }

    #[tokio::test]
    async fn a_name_that_is_none_will_not_pass() {
        // Too long for a name (RFC 1035, section 2.3.4): no name server is asked.
        let none = resolve(Resolver { allowed: None, proxy: None }, &"x".repeat(300)).await;
        assert!(matches!(none, Err(Unresolved::Failed { passing: false, .. })), "{none:?}");
    }

    #[test]
    fn a_failed_look_up_passes_by_its_code() {
        use LookupErrorKind::*;
        assert!([Again, System, Memory].into_iter().all(may_pass));
        assert!(![NoName, NoData, Fail, Family, Badflags, Unknown].into_iter().any(may_pass));
    }
}
