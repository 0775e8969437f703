//! A handler with an entity tag.

use actix_web::{HttpRequest, HttpResponse};

/// Answers with `body` and the entity tag `tag`, or with a 304 if `If-None-Match` contains the tag.
///
/// Like many handlers, it does not check whether the client got the tag with the same variant.
pub(crate) fn with_entity_tag(request: &HttpRequest, tag: &str, body: String) -> HttpResponse {
    let matches =
        request.headers().get_all("if-none-match").any(|line| line.to_str().unwrap().contains(tag));
    let mut response = if matches { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(("etag", tag));
    if matches { response.finish() } else { response.body(body) }
}
