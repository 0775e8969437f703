//! Limits for stored responses. The cache checks them before it stores a response, and again when
//! it decodes a record. A record is a stored response as bytes.

use std::time::Duration;

use actix_web::http::{StatusCode, header::HeaderName};

/// The longest lifetime: 68 years (RFC 9111 section 1.2.2). The cache replaces a longer lifetime by
/// this limit, so that the end of the lifetime is a valid date.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(1 << 31);

/// The largest number of tags that one response can carry.
pub(crate) const MAX_TAGS: usize = 64;

/// Returns whether responses with this status code may be stored (RFC 9111 section 3). Responses
/// with a final status code may be stored, except 206 and 304: a 206 has only a part of the
/// content, and a 304 has no content.
pub(crate) const fn may_have_status(status: u16) -> bool {
    matches!(status, 200..=205 | 207..=303 | 305..=999)
}

/// Returns whether responses with this status code may have a body (RFC 9110 section 15.3.5). A
/// client would take the body of a 204 for the next response on the connection.
pub(crate) fn may_have_body(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT
}

/// Returns whether a response field may be stored (RFC 9111 section 3.1). Fields that concern only
/// one connection or a proxy may not be stored. `Content-Length` and `Age` are not stored either,
/// because the cache computes them for each reply.
#[inline]
pub(crate) fn may_have_field(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "age"
            | "authentication-info"
            | "connection"
            | "content-length"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_status_codes_except_206_and_304_may_be_stored() {
        for code in 100..1000 {
            let status = StatusCode::from_u16(code).unwrap();
            let want = code >= 200 && code != 206 && code != 304;
            assert_eq!(may_have_status(code), want, "{code}");
            assert_eq!(may_have_body(status), code != 204, "{code}");
        }
        assert!(!may_have_status(99) && !may_have_status(1000));
    }

    #[test]
    fn connection_and_proxy_and_computed_fields_are_not_stored() {
        for (name, want) in [
            ("Connection", false),
            ("Keep-Alive", false),
            ("Proxy-Connection", false),
            ("TE", false),
            ("Trailer", false),
            ("Transfer-Encoding", false),
            ("Upgrade", false),
            ("Proxy-Authenticate", false),
            ("Proxy-Authentication-Info", false),
            ("Proxy-Authorization", false),
            ("Authentication-Info", false),
            ("Content-Length", false),
            ("Age", false),
            ("Content-Type", true),
            ("Set-Cookie", true),
            ("Cache-Control", true),
            ("x-connection", true),
            ("tea", true),
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(may_have_field(&name), want, "{name}");
        }
    }
}
