//! Decides by the status code of a response whether it is usually stored.

use actix_web::http::StatusCode;

/// Returns whether the cache implements the caching requirements of a status code (RFC 9110 section
/// 15).
pub(crate) fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

/// Returns whether a status code is heuristically cacheable (RFC 9110 section 15.1). The RFC also
/// lists 206, but partial responses are not stored.
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Returns whether responses with this status code are usually useful for more than one request.
/// These are the heuristically cacheable status codes, and the temporary redirects 302 and 307.
pub(crate) fn is_usually_shared(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 307)
}

/// Returns whether a general lifetime applies to responses with this status code. A general
/// lifetime is the policy's default lifetime, or another lifetime that a policy, a handler or a route
/// sets without naming status codes. It does not apply to errors, because the lifetime of a page would
/// be too long for an error in place of the page.
pub(crate) fn gets_general_lifetime(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 301 | 308)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_lifetimes_are_for_pages_and_permanent_redirections() {
        for (status, want) in [
            (200, true),
            (203, true),
            (301, true),
            (308, true),
            (204, false),
            (302, false),
            (404, false),
            (500, false),
        ] {
            assert_eq!(
                gets_general_lifetime(StatusCode::from_u16(status).unwrap()),
                want,
                "{status}"
            );
        }
    }
}
