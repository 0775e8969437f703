//! Computes the discriminator of a request.
//!
//! A discriminator is a value that the cache stores with a response. It contains properties of the
//! request that are not in the cache key but may change the response, such as `X-Forwarded-Host`. A
//! stored response answers only requests with an equal discriminator.

use actix_web::{
    dev::ServiceRequest,
    http::header::{FORWARDED, X_FORWARDED_HOST, X_FORWARDED_PROTO},
};
use smallvec::SmallVec;

use super::request_url::scheme;
use crate::{
    entry::length_prefixed::append_part,
    semantics::fields::{field_lines, list_members, split, trim},
};

/// An encoded discriminator: a sequence of values, each after the number of its [`Kind`].
type Discriminator = SmallVec<[u8; 32]>;

/// The kind of a value in a discriminator. Stores contain these numbers, so they must never change.
#[derive(Debug, Clone, Copy)]
enum Kind {
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
}

/// Returns the discriminator of a request for the cache at position `layer` among nested caches.
/// The outermost cache has position 0.
///
/// A handler may put absolute URLs from actix (`url_for`, `ConnectionInfo`) into its response. The
/// discriminator contains the parts of the request from which actix makes these URLs, except the
/// scheme and the host that the cache key contains. The discriminator also contains the position of
/// the cache. For the outermost cache without a proxy in front, the discriminator is usually empty.
pub(crate) fn discriminator_for(layer: u8, request: &ServiceRequest) -> SmallVec<[u8; 32]> {
    let mut text = Discriminator::new();
    if layer > 0 {
        append(&mut text, Kind::Layer, &[layer]);
    }
    // A client can send any scheme in an absolute-form target or in `:scheme`.
    if let Some(target_scheme) = request.uri().scheme_str()
        && target_scheme != scheme(request)
    {
        append(&mut text, Kind::TargetScheme, target_scheme.as_bytes());
    }
    for line in field_lines(request.headers(), &X_FORWARDED_HOST) {
        append(&mut text, Kind::ForwardedHost, line);
    }
    for line in field_lines(request.headers(), &X_FORWARDED_PROTO) {
        append(&mut text, Kind::ForwardedProto, line);
    }
    for line in request.headers().get_all(FORWARDED) {
        // actix ignores a line that is not visible ASCII. Other readers may not.
        let is_read_by_actix = line.to_str().is_ok();
        let line = line.as_bytes();
        if !is_read_by_actix {
            append(&mut text, Kind::Forwarded, line);
            continue;
        }
        // RFC 7239 section 4 allows quoted strings in `Forwarded`. actix ignores quotes and splits
        // the line at every separator. The discriminator contains the pairs that either way of
        // reading finds.
        let by_rfc = list_members(line).flat_map(|element| split(element, b';'));
        let by_actix = line.split(|byte| matches!(byte, b',' | b';')).map(trim);
        for pair in by_rfc.chain(by_actix).filter(|pair| names_host_or_proto(pair)) {
            append(&mut text, Kind::Forwarded, pair);
        }
    }
    text
}

/// Returns whether a pair of `Forwarded` has the name `host` or `proto`.
fn names_host_or_proto(pair: &[u8]) -> bool {
    let name = trim(pair.split(|&byte| byte == b'=').next().unwrap_or_default());
    name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto")
}

fn append(text: &mut Discriminator, kind: Kind, value: &[u8]) {
    text.push(kind as u8);
    append_part(text, value);
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn discriminator(uri: &str, layer: u8, fields: &[(&'static str, &str)]) -> Discriminator {
        let request = fields
            .iter()
            .fold(TestRequest::with_uri(uri), |request, field| request.append_header(*field))
            .to_srv_request();
        discriminator_for(layer, &request)
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
}
