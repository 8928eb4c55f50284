//! How private an address is, and name resolution that skips addresses that are too private.
//!
//! A registry names the token server to use. Without a check at connect time, a public registry could direct requests, and with
//! them a credential, to a service on this machine or to a cloud's metadata service. Checking the name alone is not enough,
//! because any name may resolve to any address.

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What an address gives access to, from the most private class to the most public.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum AddressClass {
    /// Link-local (RFC 3927, RFC 4291), metadata services of clouds, and addresses that belong to no host.
    LinkLocal,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The Internet.
    Public,
}

impl AddressClass {
    pub(in crate::registry) const ALL: [Self; 4] =
        [Self::LinkLocal, Self::Loopback, Self::Private, Self::Public];

    /// Its name in the cache.
    pub(in crate::registry) fn name(self) -> &'static str {
        match self {
            Self::LinkLocal => "link-local",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Public => "public",
        }
    }

    /// The class of `address`.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // 0.0.0.0 reaches this machine on most systems.
            [0 | 127, ..] => Self::Loopback,
            // Metadata: AWS, GCP, Azure (169.254.169.254), Azure's wire server, Alibaba Cloud, Oracle Cloud.
            [169, 254, ..] | [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192] => Self::LinkLocal,
            [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => Self::Private,
            [198, 18..=19, ..] | [192, 0, 0, _] => Self::Private,
            [224..=255, ..] => Self::LinkLocal,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_unspecified() || address.is_loopback() {
            return Self::Loopback;
        }
        let [a, b, c, d, e, f, g, h] = address.segments();
        let v4 = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match [a, b, c, d, e, f] {
            // IPv4-mapped, IPv4-compatible, IPv4-translated and NAT64: the IPv4 address decides.
            [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
            // Local NAT64 (RFC 8215) and 6to4.
            [0x64, 0xff9b, 1, ..] => Self::Private,
            [0x2002, high, low, ..] => v4(high, low),
            // AWS's metadata service over IPv6.
            [0xfd00, 0xec2, 0, 0, 0, 0] if g == 0 && h == 0x254 => Self::LinkLocal,
            [0xfe80..=0xfebf | 0xff00..=0xffff, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Private,
            _ => Self::Public,
        }
    }
}

/// How names resolve to addresses, and the class of an address. The default resolver is the system's.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(super) classify: fn(IpAddr) -> AddressClass,
    /// Names with a fixed address.
    pub(super) names: BTreeMap<String, IpAddr>,
}

impl Default for Network {
    fn default() -> Self {
        Self { classify: AddressClass::of, names: BTreeMap::new() }
    }
}

/// All addresses of a host were refused.
#[derive(Debug, thiserror::Error)]
#[error("{host} has the address {address}, which is more private than allowed")]
pub(super) struct TooPrivate {
    pub(super) host: String,
    pub(super) address: IpAddr,
}

/// Resolves names to addresses of at least the class `min_address_class`.
pub(super) struct Resolver {
    pub(super) min_address_class: AddressClass,
    pub(super) network: Arc<Network>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (min_address_class, network) = (self.min_address_class, Arc::clone(&self.network));
        Box::pin(async move {
            let host = name.as_str();
            let found: Vec<SocketAddr> = match network.names.get(host) {
                Some(address) => vec![SocketAddr::new(*address, 0)],
                None => tokio::net::lookup_host((host, 0)).await?.collect(),
            };
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| (network.classify)(address.ip()) >= min_address_class);
            if let (true, Some(address)) = (allowed.is_empty(), refused.first()) {
                let refusal = TooPrivate { host: host.to_owned(), address: address.ip() };
                return Err(Box::new(refusal) as Box<dyn StdError + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classified_by_what_they_give_access_to() {
        let cases = [
            (
                AddressClass::Public,
                "8.8.8.8 2606:4700::1 172.32.0.1 100.128.0.1 64:ff9b::808:808 2002:808:808::1",
            ),
            (
                AddressClass::Private,
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fd12::1 fec0::1",
            ),
            (
                AddressClass::Private,
                "::ffff:10.0.0.1 64:ff9b::a00:1 64:ff9b:1::808:808 2002:a00:1::1 198.18.0.1",
            ),
            (AddressClass::Loopback, "127.0.0.1 127.8.8.8 0.0.0.0 ::1 :: ::ffff:127.0.0.1 ::127.0.0.1"),
            (AddressClass::LinkLocal, "169.254.169.254 fe80::1 febf::1 ::ffff:169.254.169.254 fd00:ec2::254"),
            (
                AddressClass::LinkLocal,
                "168.63.129.16 100.100.100.200 192.0.0.192 224.0.0.1 255.255.255.255 ff02::1",
            ),
        ];
        for (class, addresses) in cases {
            for address in addresses.split(' ') {
                assert_eq!(AddressClass::of(address.parse().unwrap()), class, "{address}");
            }
        }
        assert!(AddressClass::Public > AddressClass::Private);
        assert!(AddressClass::Private > AddressClass::Loopback);
        assert!(AddressClass::Loopback > AddressClass::LinkLocal);
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_more_private_address_is_refused() {
        let resolver = |min_address_class| Resolver { min_address_class, network: Arc::default() };
        let local = || "localhost".parse::<Name>().unwrap();
        assert!(resolver(AddressClass::Loopback).resolve(local()).await.is_ok());
        let Err(refused) = resolver(AddressClass::Private).resolve(local()).await else {
            panic!("localhost passed as private")
        };
        assert!(refused.downcast_ref::<TooPrivate>().is_some());
    }
}
