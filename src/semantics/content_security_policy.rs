//! Finds content security policies that fit only one response. A nonce in a policy is valid for a
//! single response (Content Security Policy Level 3 section 7.1). A hash in a policy matches one
//! script or style in the content of the response.

use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderMap, HeaderName,
};

use super::fields::field_lines;

/// The fields that contain a content security policy.
pub(crate) const POLICY_FIELDS: [HeaderName; 2] =
    [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY];

/// Returns whether a content security policy of the response names a nonce. If the response is
/// stored, all clients get the same nonce, and an attacker can read it with one request.
pub(crate) fn names_nonce(response: &HeaderMap) -> bool {
    POLICY_FIELDS.iter().flat_map(|name| field_lines(response, name)).any(has_nonce)
}

/// Returns whether a content security policy names a nonce or a hash, so that it fits the content
/// of one response only.
pub(crate) fn fits_one_content(policy: &[u8]) -> bool {
    const HASHES: [&[u8]; 3] = [b"'sha256-", b"'sha384-", b"'sha512-"];
    has_nonce(policy) || HASHES.iter().any(|prefix| has_source(policy, prefix))
}

fn has_nonce(policy: &[u8]) -> bool {
    has_source(policy, b"'nonce-")
}

/// Returns whether a content security policy has a source expression with this prefix, in any
/// letter case.
fn has_source(policy: &[u8], prefix: &[u8]) -> bool {
    let separates = |byte: &u8| byte.is_ascii_whitespace() || b";,".contains(byte);
    policy.split(separates).any(|source| {
        source.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn nonces_and_hashes_are_found_among_source_expressions() {
        for (policy, nonce, one_content) in [
            ("script-src 'nonce-abc'", true, true),
            ("default-src 'self'; script-src 'self' 'NONCE-abc'", true, true),
            ("default-src 'self', script-src 'nonce-abc'", true, true),
            ("script-src\t'nonce-abc'", true, true),
            ("script-src 'sha256-abc='", false, true),
            ("style-src 'sha384-abc=';script-src 'self'", false, true),
            ("script-src 'Sha512-abc='", false, true),
            ("script-src 'self'", false, false),
            ("script-src 'nonce'", false, false),
            ("script-src https://'nonce-abc'", false, false),
            ("script-src 'sha1-abc'", false, false),
            ("", false, false),
        ] {
            assert_eq!(fits_one_content(policy.as_bytes()), one_content, "{policy}");
            for name in POLICY_FIELDS {
                let mut response = HeaderMap::new();
                response.append(name.clone(), HeaderValue::from_static("default-src 'none'"));
                response.append(name, HeaderValue::from_str(policy).unwrap());
                assert_eq!(names_nonce(&response), nonce, "{policy}");
            }
        }
    }
}
