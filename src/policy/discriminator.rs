//! The discriminator of a request: what handlers can see of it that is not part of the cache key.

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

/// The encoded discriminator: pairs of a kind and a value.
type Discriminator = SmallVec<[u8; 32]>;

/// The kind of a value in a discriminator. The numbers are stored, so they never change.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The position of the cache among nested caches.
    Layer = 1,
    /// The scheme in the request target.
    TargetScheme = 2,
    /// A line of `X-Forwarded-Host`.
    ForwardedHost = 3,
    /// A line of `X-Forwarded-Proto`.
    ForwardedProto = 4,
    /// A pair of `Forwarded`.
    Forwarded = 5,
}

/// Returns the discriminator of a request for the cache at position `layer`, 0 for the outermost.
///
/// Two requests with one cache key but different discriminators share no stored response. The
/// discriminator contains the position of the cache among nested caches, and the fields from which
/// actix makes links (`url_for`, `ConnectionInfo`), as far as they are not in the cache key. It is
/// empty for the outermost cache without a proxy in front.
pub(crate) fn discriminator_for(layer: u8, request: &ServiceRequest) -> SmallVec<[u8; 32]> {
    let mut text = Discriminator::new();
    if layer > 0 {
        append(&mut text, Kind::Layer, &[layer]);
    }
    // A client can put any scheme into an absolute-form target and into `:scheme`.
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
    for line in field_lines(request.headers(), &FORWARDED) {
        // RFC 7239 section 4 has quoted strings. actix does not know them and splits at every
        // separator, so the pairs of both readings are appended.
        let by_rfc = list_members(line).flat_map(|element| split(element, b';'));
        let by_actix = line.split(|byte| matches!(byte, b',' | b';')).map(trim);
        for pair in by_rfc.chain(by_actix).filter(|pair| names_host_or_proto(pair)) {
            append(&mut text, Kind::Forwarded, pair);
        }
    }
    text
}

/// Returns whether a pair of `Forwarded` contains the host or the scheme.
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
