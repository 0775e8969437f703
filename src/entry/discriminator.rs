//! The encoding of discriminators. A discriminator is a list of properties of a request that are not
//! in the cache key but may change the response, such as `X-Forwarded-Host`.
//!
//! A discriminator is a sequence of values. The number of its [`Property`] and its length precede
//! each value.

use smallvec::SmallVec;

use crate::entry::length_prefixed::{append_part, read_part};

/// An encoded discriminator. Most are empty, and a request is moved with its discriminator, so a longer
/// one is on the heap.
pub(crate) type Discriminator = SmallVec<[u8; 16]>;

/// The property of a request from which a value in a discriminator comes. Stores contain these
/// numbers, so they must never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property {
    /// The position of the cache among nested caches.
    Layer = 1,
    /// The scheme in the request target, if this scheme differs from the scheme of the connection.
    TargetScheme = 2,
    /// A line of `X-Forwarded-Host`.
    ForwardedHost = 3,
    /// A line of `X-Forwarded-Proto`.
    ForwardedProto = 4,
    /// A `host` or `proto` pair of `Forwarded`, or a line that actix cannot read.
    Forwarded = 5,
    /// The forwarded values of the request come from a trusted proxy. The value is empty.
    TrustedProxy = 6,
}

/// Appends a value to a discriminator.
pub(crate) fn append(discriminator: &mut Discriminator, property: Property, value: &[u8]) {
    discriminator.push(property as u8);
    append_part(discriminator, value);
}

/// Returns the position of the cache that a discriminator contains. The outermost cache has position
/// 0.
pub(crate) fn layer_of(discriminator: &[u8]) -> u8 {
    match discriminator {
        [property, rest @ ..] if *property == Property::Layer as u8 => match read_part(rest) {
            Some((&[layer], _)) => layer,
            _ => 0,
        },
        _ => 0,
    }
}

/// Returns whether any client could have sent the values in a discriminator. Without a trusted
/// proxy, the forwarded values and the scheme of the target are as the client sends them.
pub(crate) fn is_chosen_by_client(discriminator: &[u8]) -> bool {
    let mut rest = discriminator;
    let mut is_chosen = false;
    while let Some((&property, list)) = rest.split_first() {
        if property == Property::TrustedProxy as u8 {
            return false;
        }
        is_chosen |= property != Property::Layer as u8;
        // A discriminator of another encoding is not trusted.
        let Some((_, tail)) = read_part(list) else { return true };
        rest = tail;
    }
    is_chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_is_read_back() {
        for layer in [0, 1, 2, 255] {
            let mut text = Discriminator::new();
            if layer > 0 {
                append(&mut text, Property::Layer, &[layer]);
            }
            append(&mut text, Property::ForwardedHost, b"host");
            assert_eq!(layer_of(&text), layer);
        }
        for damaged in [&[][..], &[1], &[1, 2, 0, 0, 0, 7, 7]] {
            assert_eq!(layer_of(damaged), 0, "{damaged:?}");
        }
    }

    #[test]
    fn values_of_clients_are_told_from_those_of_trusted_proxies() {
        for (properties, is_chosen) in [
            (&[][..], false),
            (&[Property::Layer], false),
            (&[Property::TargetScheme], true),
            (&[Property::Layer, Property::ForwardedHost], true),
            (&[Property::ForwardedProto], true),
            (&[Property::Forwarded], true),
            (&[Property::TrustedProxy, Property::ForwardedHost], false),
            (&[Property::TargetScheme, Property::TrustedProxy], false),
        ] {
            let mut text = Discriminator::new();
            for property in properties {
                append(&mut text, *property, b"value");
            }
            assert_eq!(is_chosen_by_client(&text), is_chosen, "{properties:?}");
        }
        for damaged in [&[1][..], &[1, 9, 0, 0, 0, 1], &[77, 0, 0, 0, 0]] {
            assert!(is_chosen_by_client(damaged), "{damaged:?}");
        }
    }
}
