//! The proxies whose `X-Forwarded-Host`, `X-Forwarded-Proto` and `Forwarded` a policy trusts.

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::ConfigError;

/// The entry that stands for all connections over a Unix domain socket.
const UNIX: &str = "unix:";

/// The peers whose forwarded fields are trusted. Each request has a peer: the address at the other
/// end of its connection.
#[derive(Debug, Clone)]
pub(super) enum TrustedProxies {
    /// The policy names no proxies.
    Unknown,
    Listed {
        networks: Vec<IpNet>,
        unix_sockets: UnixSockets,
    },
}

/// Whether peers that are connected over a Unix domain socket are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnixSockets {
    Trusted,
    NotTrusted,
}

/// The trust in the forwarded fields of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The policy names no proxies, so any client could have sent the fields.
    Unknown,
    /// A proxy that the policy names has sent the request.
    Trusted,
    /// Another peer has sent the request, although the policy names proxies.
    Refused,
}

impl TrustedProxies {
    /// Parses the list of a policy. `None` means that the policy has no list.
    pub(super) fn new(entries: Option<&[String]>) -> Result<Self, ConfigError> {
        let Some(entries) = entries else { return Ok(Self::Unknown) };
        let (mut networks, mut unix_sockets) = (Vec::new(), UnixSockets::NotTrusted);
        for entry in entries {
            if entry == UNIX {
                unix_sockets = UnixSockets::Trusted;
                continue;
            }
            let network = parse_network(entry);
            networks.push(network.ok_or_else(|| ConfigError::TrustedProxy(entry.clone()))?);
        }
        Ok(Self::Listed { networks, unix_sockets })
    }

    /// Returns the trust in a peer. A connection over a Unix domain socket has no address.
    pub(super) fn trust(&self, peer: Option<IpAddr>) -> Trust {
        let Self::Listed { networks, unix_sockets } = self else { return Trust::Unknown };
        let is_trusted = match peer {
            // A socket for IPv6 shows the address of an IPv4 peer as `::ffff:192.0.2.1`.
            Some(peer) => networks.iter().any(|network| network.contains(&peer.to_canonical())),
            None => *unix_sockets == UnixSockets::Trusted,
        };
        if is_trusted { Trust::Trusted } else { Trust::Refused }
    }
}

/// Parses an address or a network. IPv4 peers on an IPv6 socket have addresses such as
/// `::ffff:192.0.2.1`, and count as IPv4. A network of such addresses is therefore not valid.
fn parse_network(entry: &str) -> Option<IpNet> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(address.to_canonical().into());
    }
    let network: IpNet = entry.parse().ok()?;
    (network.addr().to_canonical() == network.addr()).then_some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(entries: &[&str]) -> Result<TrustedProxies, ConfigError> {
        let entries: Vec<_> = entries.iter().map(|&entry| entry.to_owned()).collect();
        TrustedProxies::new(Some(&entries))
    }

    #[test]
    fn listed_addresses_and_networks_are_trusted() {
        let all = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"];
        for (entries, peer, want) in [
            (&all[..], Some("10.9.8.7"), Trust::Trusted),
            (&all, Some("::ffff:10.9.8.7"), Trust::Trusted),
            (&all, Some("11.0.0.1"), Trust::Refused),
            (&all, Some("192.0.2.7"), Trust::Trusted),
            (&all, Some("192.0.2.8"), Trust::Refused),
            (&all, Some("2001:db8:1::9"), Trust::Trusted),
            (&all, Some("2001:db9::1"), Trust::Refused),
            (&all, Some("::1"), Trust::Trusted),
            (&all, None, Trust::Refused),
            (&["::ffff:10.0.0.1"], Some("10.0.0.1"), Trust::Trusted),
            (&["unix:"], None, Trust::Trusted),
            (&["unix:"], Some("127.0.0.1"), Trust::Refused),
            (&[], Some("127.0.0.1"), Trust::Refused),
        ] {
            let peer = peer.map(|peer| peer.parse().unwrap());
            assert_eq!(proxies(entries).unwrap().trust(peer), want, "{entries:?} {peer:?}");
        }
        let unknown = TrustedProxies::new(None).unwrap();
        assert_eq!(unknown.trust(None), Trust::Unknown);
    }

    #[test]
    fn entry_that_is_no_address_is_refused() {
        for entry in
            ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "proxy:80", "unix", "::ffff:10.0.0.0/104"]
        {
            let error = proxies(&["::1", entry]).unwrap_err();
            assert_eq!(error, ConfigError::TrustedProxy(entry.to_owned()));
        }
    }
}
