//! Fields of one connection end with it (RFC 9110 section 7.6.1).
//!
//! Requests lose theirs before the cache sees them: a client that sends `Accept: x` along with
//! `Connection: accept` would otherwise have the origin's answer to no `Accept` at all stored for
//! everybody who sends `x`. Responses lose theirs after the cache saw them, so that it judges what
//! the origin said, and whether or not they were stored.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{
        CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
    middleware::Next,
};

pub(crate) async fn strip<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    strip_fields(request.headers_mut());
    let mut response = next.call(request).await?;
    strip_fields(response.headers_mut());
    Ok(response)
}

fn strip_fields(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|member| HeaderName::from_bytes(member.trim_ascii()).ok())
        // Whom a message is for and where it ends is never a matter of naming it.
        .filter(|name| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named.into_iter().chain([CONNECTION, TE, TRAILER, UPGRADE]) {
        fields.remove(name);
    }
    fields.remove("keep-alive");
    fields.remove("proxy-connection");
}
