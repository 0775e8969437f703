//! Computes the discriminator of a request.
//!
//! A discriminator is a value that the cache stores with a response. It contains properties of the
//! request that are not in the cache key but may change the response, such as `X-Forwarded-Host`. A
//! stored response answers only requests with an equal discriminator.

use actix_web::{
    dev::ServiceRequest,
    http::header::{FORWARDED, X_FORWARDED_HOST, X_FORWARDED_PROTO},
};

use super::{compiled::CompiledPolicy, request_url::scheme, trusted_proxies::Trust};
use crate::{
    entry::discriminator::{Discriminator, Property, append},
    semantics::{
        fields::{field_lines, list_members, split, trim},
        special_fields::SpecialFields,
    },
};

/// A request has forwarded fields, and comes from a peer that the policy does not trust.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UntrustedProxy;

impl CompiledPolicy {
    /// Returns the discriminator of a request for the cache at position `layer` among nested
    /// caches. The outermost cache has position 0.
    ///
    /// A handler may put absolute URLs from actix (`url_for`, `ConnectionInfo`) into its response.
    /// The discriminator contains the parts of the request from which actix makes these URLs,
    /// except the scheme and the host that the cache key contains. The discriminator also contains
    /// the position of the cache. For the outermost cache without a proxy in front, the
    /// discriminator is usually empty.
    pub(crate) fn discriminator(
        &self,
        layer: u8,
        request: &ServiceRequest,
        special: SpecialFields,
    ) -> Result<Discriminator, UntrustedProxy> {
        let mut text = Discriminator::new();
        if layer > 0 {
            append(&mut text, Property::Layer, &[layer]);
        }
        // A client can send any scheme in an absolute-form target or in `:scheme`.
        if let Some(target_scheme) = request.uri().scheme_str()
            && target_scheme != scheme(request)
        {
            append(&mut text, Property::TargetScheme, target_scheme.as_bytes());
        }
        if !special.has(SpecialFields::FORWARDED) {
            return Ok(text);
        }
        let before = text.len();
        append_forwarded(&mut text, request);
        if text.len() == before {
            return Ok(text);
        }
        match self.trusted_proxies.trust(request.peer_addr().map(|peer| peer.ip())) {
            Trust::Unknown => {}
            Trust::Trusted => append(&mut text, Property::TrustedProxy, b""),
            Trust::Refused => return Err(UntrustedProxy),
        }
        Ok(text)
    }
}

/// Appends the values of the forwarded fields from which actix makes URLs.
pub(super) fn append_forwarded(text: &mut Discriminator, request: &ServiceRequest) {
    for line in field_lines(request.headers(), &X_FORWARDED_HOST) {
        append(text, Property::ForwardedHost, line);
    }
    for line in field_lines(request.headers(), &X_FORWARDED_PROTO) {
        append(text, Property::ForwardedProto, line);
    }
    for line in request.headers().get_all(FORWARDED) {
        // actix ignores a line that is not visible ASCII. Other readers may not.
        let is_read_by_actix = line.to_str().is_ok();
        let line = line.as_bytes();
        if !is_read_by_actix {
            append(text, Property::Forwarded, line);
            continue;
        }
        // RFC 7239 section 4 allows quoted strings in `Forwarded`. actix ignores quotes and splits
        // the line at every separator. The discriminator contains the pairs that either way of
        // reading finds.
        let by_rfc = list_members(line).flat_map(|element| split(element, b';'));
        let by_actix = line.split(|byte| matches!(byte, b',' | b';')).map(trim);
        for pair in by_rfc.chain(by_actix).filter(|pair| names_host_or_proto(pair)) {
            append(text, Property::Forwarded, pair);
        }
    }
}

/// Returns whether a pair of `Forwarded` has the name `host` or `proto`.
fn names_host_or_proto(pair: &[u8]) -> bool {
    let name = trim(pair.split(|&byte| byte == b'=').next().unwrap_or_default());
    name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{super::settings::Policy, *};
    use crate::entry::discriminator::is_chosen_by_client;

    fn compile(policy: Policy) -> CompiledPolicy {
        CompiledPolicy::new(policy, None, "t").unwrap()
    }

    fn discriminator(uri: &str, layer: u8, fields: &[(&'static str, &str)]) -> Discriminator {
        let request = fields
            .iter()
            .fold(TestRequest::with_uri(uri), |request, field| request.append_header(*field))
            .to_srv_request();
        compile(Policy::new()).discriminator(layer, &request, SpecialFields::ALL).unwrap()
    }

    #[test]
    fn only_sources_of_links_and_the_layer_are_part_of_the_discriminator() {
        let of = |layer, fields: &[(&'static str, &str)]| discriminator("/", layer, fields);
        assert!(of(0, &[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")]).is_empty());
        let all = [
            of(0, &[]),
            of(1, &[]),
            of(0, &[("x-forwarded-host", "a")]),
            of(0, &[("x-forwarded-proto", "a")]),
            of(0, &[("x-forwarded-host", "a"), ("x-forwarded-proto", "a")]),
            of(0, &[("forwarded", "for=x;host=a")]),
            of(0, &[("forwarded", "for=y, HOST = b ; proto=http")]),
            of(0, &[("forwarded", "for=\"x;host=a\"")]),
            of(0, &[("forwarded", "for=\"x, proto=a\"")]),
            of(0, &[("forwarded", "host=\"a,b\"")]),
            of(0, &[("forwarded", "host=\"a,c\"")]),
            discriminator("https://a/", 0, &[]),
            discriminator("ftp://a/", 0, &[]),
        ];
        assert_eq!(discriminator("http://a/", 0, &[]), all[0]);
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{index}");
        }
        assert_eq!(
            of(0, &[("forwarded", "for=x;host=a")]),
            of(0, &[("forwarded", "for=y;host=a")])
        );
    }
    #[test]
    fn forwarded_fields_of_untrusted_peers_are_refused() {
        let policy = compile(Policy::new().trusted_proxies(["10.0.0.0/8"]));
        let from = |peer: &str, fields: &[(&'static str, &str)]| {
            let request = TestRequest::default().peer_addr(peer.parse().unwrap());
            let request =
                fields.iter().fold(request, |request, field| request.append_header(*field));
            policy.discriminator(0, &request.to_srv_request(), SpecialFields::ALL)
        };
        let host = [("x-forwarded-host", "a")];
        for forwarded in [
            &host[..],
            &[("x-forwarded-proto", "https")],
            &[("forwarded", "host=a")],
            &[("forwarded", "proto=https")],
        ] {
            assert_eq!(from("192.0.2.1:80", forwarded), Err(UntrustedProxy), "{forwarded:?}");
            let trusted = from("10.1.2.3:80", forwarded).unwrap();
            assert!(!is_chosen_by_client(&trusted), "{forwarded:?}");
            assert_ne!(trusted, discriminator("/", 0, forwarded), "{forwarded:?}");
            assert!(is_chosen_by_client(&discriminator("/", 0, forwarded)), "{forwarded:?}");
        }
        for other in [&[][..], &[("x-forwarded-for", "a")], &[("forwarded", "for=a")]] {
            assert!(from("192.0.2.1:80", other).unwrap().is_empty(), "{other:?}");
        }
    }
}
