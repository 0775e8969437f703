//! Checks a request's header fields, to decide whether the request bypasses the cache.

use actix_web::http::{
    Method,
    header::{
        CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        TRANSFER_ENCODING, UPGRADE,
    },
};

use super::{
    fields::{field_lines, list_members},
    validation::has_handler_only_condition,
};
use crate::outcome::Bypass;

/// Returns the reason why a GET or HEAD request bypasses the cache because of its header fields;
/// `None` if the cache may answer the request.
pub(crate) fn bypass_reason(request: &HeaderMap) -> Option<Bypass> {
    if asks_for_upgrade(request) {
        return Some(Bypass::Upgrade);
    }
    // RFC 9110 section 9.3.1: content in a GET request has no defined meaning. The content is not
    // part of the cache key, but the handler may use it.
    let has_content = field_lines(request, &CONTENT_LENGTH).any(|length| length != b"0");
    if has_content || request.contains_key(TRANSFER_ENCODING) {
        return Some(Bypass::RequestBody);
    }
    has_handler_only_condition(request).then_some(Bypass::Condition)
}

/// Returns the reason why a request whose body is part of the cache key bypasses the cache because of
/// its method and its header fields; `None` if the cache may answer the request.
pub(crate) fn bypass_reason_with_body(method: &Method, request: &HeaderMap) -> Option<Bypass> {
    if asks_for_upgrade(request) {
        return Some(Bypass::Upgrade);
    }
    // RFC 9110 section 13.1.2: a condition that is false makes the response to a `POST` a 412, which
    // only the handler can decide. RFC 10008 section 2.6: `QUERY` is as conditional as `GET`.
    let is_conditional = *method == Method::POST && is_conditional(request);
    (is_conditional || has_handler_only_condition(request)).then_some(Bypass::Condition)
}

/// Returns whether the handler of a request with this method evaluates conditions as it does for a
/// `GET`: it answers 304 if the client has the current response (RFC 9110 section 13.1.2).
pub(crate) fn has_not_modified(method: &Method) -> bool {
    *method != Method::POST
}

/// Returns whether a request asks for another protocol. RFC 9110 section 7.8: the response may switch
/// the connection to it.
fn asks_for_upgrade(request: &HeaderMap) -> bool {
    request.contains_key(UPGRADE) || has_connection_option(request, b"upgrade")
}

/// Returns whether `Connection` contains an option (RFC 9110 section 7.6.1).
fn has_connection_option(request: &HeaderMap, option: &[u8]) -> bool {
    field_lines(request, &CONNECTION)
        .flat_map(list_members)
        .any(|member| member.eq_ignore_ascii_case(option))
}

/// Returns whether a request has a condition that a cache evaluates and may answer with 304 (RFC
/// 9111 section 4.3.2).
pub(crate) fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

/// Returns whether a request field describes the content of its request.
///
/// The cache leaves these fields out of a POST request whose response it stores to answer later GET
/// requests (RFC 9110 section 9.3.3). The other fields are those that such a GET request would have.
pub(crate) fn describes_content(name: &HeaderName) -> bool {
    name.as_str().starts_with("content-") || *name == TRANSFER_ENCODING
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn request_bypasses_the_cache_for_upgrade_content_or_handler_only_condition() {
        use Bypass::{Condition, RequestBody, Upgrade};
        for (fields, want) in [
            (&[][..], None),
            (&[("accept", "*/*"), ("range", "bytes=0-1")], None),
            (&[("if-none-match", "*"), ("if-modified-since", "x")], None),
            (&[("upgrade", "websocket")], Some(Upgrade)),
            (&[("upgrade", "")], Some(Upgrade)),
            (&[("connection", "keep-alive")], None),
            (&[("connection", "keep-alive, Upgrade")], Some(Upgrade)),
            (&[("connection", "close"), ("connection", "upgrade")], Some(Upgrade)),
            (&[("connection", "upgrade-later")], None),
            (&[("content-length", "0")], None),
            (&[("content-length", "1")], Some(RequestBody)),
            (&[("content-length", "00")], Some(RequestBody)),
            (&[("content-length", "0"), ("content-length", "1")], Some(RequestBody)),
            (&[("transfer-encoding", "chunked")], Some(RequestBody)),
            (&[("content-type", "text/plain")], None),
            (&[("if-match", "*")], Some(Condition)),
            (&[("if-unmodified-since", "x")], Some(Condition)),
            (&[("if-match", "*"), ("content-length", "1")], Some(RequestBody)),
            (&[("upgrade", "h2c"), ("content-length", "1")], Some(Upgrade)),
        ] {
            assert_eq!(bypass_reason(&request(fields)), want, "{fields:?}");
        }
    }

    #[test]
    fn request_with_a_keyed_body_bypasses_because_of_upgrades_and_conditions() {
        use Bypass::{Condition, Upgrade};
        let query = Method::from_bytes(b"QUERY").unwrap();
        for (fields, by_query, by_post) in [
            (&[][..], None, None),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], None, None),
            (&[("expect", "100-continue"), ("range", "bytes=0-1")], None, None),
            (&[("if-none-match", "*")], None, Some(Condition)),
            (&[("if-modified-since", "x")], None, Some(Condition)),
            (&[("if-match", "*")], Some(Condition), Some(Condition)),
            (&[("connection", "upgrade")], Some(Upgrade), Some(Upgrade)),
        ] {
            let fields = request(fields);
            assert_eq!(bypass_reason_with_body(&query, &fields), by_query, "{fields:?}");
            assert_eq!(bypass_reason_with_body(&Method::POST, &fields), by_post, "{fields:?}");
        }
        assert!(has_not_modified(&query) && !has_not_modified(&Method::POST));
    }

    #[test]
    fn request_is_conditional_if_a_cache_can_answer_its_condition() {
        for (name, want) in [
            ("if-none-match", true),
            ("if-modified-since", true),
            ("if-match", false),
            ("if-unmodified-since", false),
            ("if-range", false),
            ("range", false),
            ("accept", false),
        ] {
            assert_eq!(is_conditional(&request(&[(name, "x")])), want, "{name}");
        }
        assert!(!is_conditional(&request(&[])));
    }

    #[test]
    fn fields_that_a_get_request_lacks_describe_content() {
        for (name, want) in [
            ("accept", false),
            ("content-length", true),
            ("content-type", true),
            ("content-encoding", true),
            ("contents", false),
            ("cookie", false),
            ("transfer-encoding", true),
        ] {
            assert_eq!(describes_content(&HeaderName::from_static(name)), want, "{name}");
        }
    }
}
