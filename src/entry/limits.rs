//! What a stored response can be: nothing else is stored, and nothing else is read back.

use std::time::Duration;

use actix_web::http::{StatusCode, header::HeaderName};

/// The longest lifetime there is, however it is stated (RFC 9111 section 1.2.2): 68 years, so that
/// no date after it is beyond what can be written.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(1 << 31);

/// Tags that one response can have.
pub(crate) const MAX_TAGS: usize = 64;

/// Whether responses with this status code are ever stored (RFC 9111 section 3): final ones. 206 is
/// a part, 304 says nothing of its own.
pub(crate) const fn may_have_status(status: u16) -> bool {
    matches!(status, 200..=205 | 207..=303 | 305..=999)
}

/// Whether responses with this status code have a body (RFC 9110 section 15.3.5): bytes after the
/// head of one that has none would be taken for the next response.
pub(crate) fn may_have_body(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT
}

/// Whether the field is ever stored (RFC 9111 section 3.1): those of one connection or of a proxy
/// are not. Neither are `Content-Length`, which the body itself says, and `Age`, which is counted
/// anew.
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
    fn final_status_codes_can_be_stored_but_for_parts_and_not_modified() {
        for code in 100..1000 {
            let status = StatusCode::from_u16(code).unwrap();
            let want = code >= 200 && code != 206 && code != 304;
            assert_eq!(may_have_status(code), want, "{code}");
            assert_eq!(may_have_body(status), code != 204, "{code}");
        }
        assert!(!may_have_status(99) && !may_have_status(1000));
    }

    #[test]
    fn fields_of_a_connection_or_a_proxy_and_what_is_made_anew_are_not_stored() {
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
