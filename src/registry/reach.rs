//! Which addresses a registry may send us to.
//!
//! A challenge names a token service, a redirect names a storage host: addresses that a stranger chose. None of them
//! may lead to a machine that only we can reach, such as a cloud's metadata service, unless the registry is itself in
//! such a place. Names are judged by what they resolve to, at the moment of connecting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

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
pub(super) enum Reach {
    Public,
    /// RFC 1918, RFC 6598 and unique local addresses: someone's own network.
    Private,
    /// This machine.
    Loopback,
    /// One cable, where metadata services live; and addresses that are nobody's.
    Never,
}

impl Reach {
    pub fn of(address: IpAddr) -> Self {
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
            (127, _) => Reach::Loopback,
            _ if METADATA.contains(&v4) => Reach::Never,
            (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) => Reach::Private,
            (0, _) | (169, 254) | (224..=255, _) => Reach::Never,
            _ => Reach::Public,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        // AWS serves metadata at a unique local address.
        if v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
            || v6.is_unspecified()
            || v6.is_multicast()
        {
            return Reach::Never;
        }
        match v6.segments()[0] {
            _ if v6.is_loopback() => Reach::Loopback,
            0xfe80..=0xfebf => Reach::Never,
            0xfc00..=0xfdff | 0xfec0..=0xfeff => Reach::Private,
            _ => Reach::Public,
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
    pub fn as_token_service(registry: Reach) -> Self {
        Self { private: registry != Reach::Public, loopback: registry == Reach::Loopback }
    }

    /// Storage gets no login, and is at times on a private network beside a public registry.
    pub fn as_storage(registry: Reach) -> Self {
        Self { private: true, loopback: registry == Reach::Loopback }
    }

    pub fn takes(self, address: IpAddr) -> bool {
        match Reach::of(address) {
            Reach::Public => true,
            Reach::Private => self.private,
            Reach::Loopback => self.loopback,
            Reach::Never => false,
        }
    }

    /// Whether a URL whose host is an address in itself is allowed; names are judged by [`Guard`].
    pub fn takes_literal(self, url: &Url) -> bool {
        match url.host() {
            Some(url::Host::Ipv4(v4)) => self.takes(v4.into()),
            Some(url::Host::Ipv6(v6)) => self.takes(v6.into()),
            Some(url::Host::Domain(_)) | None => true,
        }
    }
}

/// Resolves names to what is allowed, and to nothing else.
pub(super) struct Guard {
    pub allowed: Allowed,
    /// The proxy in between, which the user named; it is where it is.
    pub proxy: Option<String>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, trusted) = (self.allowed, self.proxy.as_deref() == Some(name.as_str()));
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let good: Vec<SocketAddr> =
                found.into_iter().filter(|a| trusted || allowed.takes(a.ip())).collect();
            if good.is_empty() {
                return Err(Box::from(FORBIDDEN));
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// How it is said that an address is not allowed.
pub(super) const FORBIDDEN: &str =
    "it leads to an address on a private network or this machine, which is refused";

/// How near `url`'s host is, by all of its addresses.
pub(super) async fn reach_of_host(url: &Url) -> Reach {
    let addresses: Vec<IpAddr> = match url.host() {
        Some(url::Host::Ipv4(v4)) => vec![v4.into()],
        Some(url::Host::Ipv6(v6)) => vec![v6.into()],
        // Behind a proxy there may be nobody to ask for the names of the world.
        Some(url::Host::Domain(name)) => {
            match timeout(LOOKUP_MAX, tokio::net::lookup_host((name, 0))).await {
                Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            }
        }
        None => Vec::new(),
    };
    farthest(addresses)
}

/// How near a host with these addresses is: what counts is the farthest of them. Whoever owns a name may give it an
/// address of this machine besides, which must not open this machine to where that host points.
fn farthest(addresses: impl IntoIterator<Item = IpAddr>) -> Reach {
    let all: Vec<Reach> = addresses.into_iter().map(Reach::of).collect();
    match () {
        () if all.is_empty() || all.contains(&Reach::Public) => Reach::Public,
        () if all.iter().all(|reach| *reach == Reach::Loopback) => Reach::Loopback,
        () => Reach::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_in_every_disguise() {
        let table = [
            ("8.8.8.8", Reach::Public),
            ("10.1.2.3", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("127.0.0.1", Reach::Loopback),
            ("169.254.169.254", Reach::Never),
            ("100.100.100.200", Reach::Never),
            ("168.63.129.16", Reach::Never),
            ("192.0.0.192", Reach::Never),
            ("64:ff9b:1::a9fe:a9fe", Reach::Never),
            ("2002:a9fe:a9fe::1", Reach::Never),
            ("2002:808:808::1", Reach::Public),
            ("0.0.0.0", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("::1", Reach::Loopback),
            ("::ffff:169.254.169.254", Reach::Never),
            ("::ffff:a9fe:a9fe", Reach::Never),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("::127.0.0.1", Reach::Loopback),
            ("::ffff:10.0.0.1", Reach::Private),
            ("fe80::1", Reach::Never),
            ("fd00:ec2::254", Reach::Never),
            ("fd12::1", Reach::Private),
            ("2606:4700::1", Reach::Public),
        ];
        for (address, expected) in table {
            assert_eq!(Reach::of(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_token_service_is_as_near_as_the_registry_or_public() {
        let takes =
            |registry, address: &str| Allowed::as_token_service(registry).takes(address.parse().unwrap());
        assert!(takes(Reach::Public, "8.8.8.8") && takes(Reach::Private, "8.8.8.8"));
        assert!(!takes(Reach::Public, "10.0.0.1") && takes(Reach::Private, "10.0.0.1"));
        assert!(!takes(Reach::Private, "127.0.0.1") && takes(Reach::Loopback, "127.0.0.1"));
        for registry in [Reach::Public, Reach::Private, Reach::Loopback] {
            assert!(!takes(registry, "169.254.169.254"));
        }
    }

    #[test]
    fn a_host_is_as_near_as_the_farthest_of_its_addresses() {
        let table: &[(&[&str], Reach)] = &[
            (&["8.8.8.8", "127.0.0.1"], Reach::Public),
            (&["::1", "2606:4700::1"], Reach::Public),
            (&["10.0.0.1", "127.0.0.1"], Reach::Private),
            (&["127.0.0.1", "169.254.169.254"], Reach::Private),
            (&["10.0.0.1", "8.8.8.8"], Reach::Public),
            (&["127.0.0.1", "::1"], Reach::Loopback),
            (&["169.254.1.1"], Reach::Private),
            (&[], Reach::Public),
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

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_not_connected_to() {
        let guard = |proxy: Option<&str>| Guard {
            allowed: Allowed { private: false, loopback: false },
            proxy: proxy.map(str::to_owned),
        };
        let resolve =
            |guard: Guard| async move { guard.resolve("localhost".parse().unwrap()).await.map(|_| ()) };
        assert!(resolve(guard(None)).await.unwrap_err().to_string().contains("refused"));
        assert!(resolve(guard(Some("localhost"))).await.is_ok());
    }
}
