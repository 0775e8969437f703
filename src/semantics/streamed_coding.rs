//! Responses that the cache codes while it sends them, because it has no coded copy: whether it may
//! do so, and their fields (RFC 9110 sections 8.4 and 8.8.3.3).

use actix_web::{
    body::BodySize,
    http::{
        Method, StatusCode,
        header::{
            ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
            HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE, VARY,
        },
    },
};

use super::{
    body::{declared_length, is_endless},
    coded_copies::{MediaTypes, may_be_coded},
    compression::weaken_strong_tag,
    fields::{field_lines, list_members, trim},
    vary::add_to_vary,
};
use crate::entry::content_coding::ContentCoding;

/// The content of a response, as far as its head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The response has no content that could be coded. But its fields may describe coded content that
    /// the client has, or would get by GET.
    Described,
    /// The content of the response, with its length if it is known. A response to HEAD describes such
    /// content.
    Present(Option<u64>),
    Empty,
}

impl Content {
    /// Returns the content of a response to a request with this method. `size` is the size of the body
    /// object.
    pub(crate) fn of(
        method: &Method,
        status: StatusCode,
        size: BodySize,
        response: &HeaderMap,
    ) -> Self {
        if status == StatusCode::NOT_MODIFIED {
            return Self::Described;
        }
        // The handler of a HEAD request may send no body object, or an empty one.
        let is_head = *method == Method::HEAD;
        let size = match size {
            BodySize::Sized(0) | BodySize::None if is_head => BodySize::Stream,
            size => size,
        };
        match (declared_length(size, response), size) {
            (Some(0), _) | (None, BodySize::None) => Self::Empty,
            (Some(length), _) => Self::Present(Some(length)),
            (None, _) if is_head => Self::Described,
            (None, _) => Self::Present(None),
        }
    }
}

/// The party that added `Accept-Encoding` to `Vary` of a response, if the field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VaryOrigin {
    /// The handler, which therefore chooses the coding by the request.
    Handler,
    Cache,
}

/// Returns whether the cache may code a response while it sends it, if the response has content.
///
/// An encoder takes some megabytes, which is much for each of the many clients of a body that does not
/// end.
pub(crate) fn may_be_streamed_coded(
    status: StatusCode,
    response: &HeaderMap,
    vary: VaryOrigin,
    types: &MediaTypes,
) -> bool {
    let is_of_type = types.contain_type_of(response)
        // A 304 need not have the media type.
        || (status == StatusCode::NOT_MODIFIED && !response.contains_key(CONTENT_TYPE));
    is_of_type
        && !status.is_informational()
        && status != StatusCode::PARTIAL_CONTENT
        && !is_endless(response)
        && (vary == VaryOrigin::Cache || !varies_on(response, ACCEPT_ENCODING.as_str()))
        && may_be_coded(status, response, &[])
}

/// Adds `Accept-Encoding` to `Vary`, if it is missing.
pub(crate) fn vary_on_coding(response: &mut HeaderMap) {
    if !varies_on(response, "*") && !varies_on(response, ACCEPT_ENCODING.as_str()) {
        add_to_vary(response, &[ACCEPT_ENCODING]);
    }
}

fn varies_on(response: &HeaderMap, name: &str) -> bool {
    let mut members = field_lines(response, &VARY).flat_map(list_members);
    members.any(|member| member.eq_ignore_ascii_case(name.as_bytes()))
}

/// Writes the fields of a response whose content is coded while it is sent. Its length is not known,
/// and its bytes may be others the next time, so that it has neither ranges nor a strong entity tag.
pub(crate) fn describe_coding(response: &mut HeaderMap, coding: ContentCoding) {
    response.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    response.remove(CONTENT_LENGTH);
    response.remove(ACCEPT_RANGES);
    weaken_strong_tag(response);
}

/// Makes the strong entity tag of a response without content weak, unless the request names this tag:
/// the client may have the content as it was coded while it was sent. With the strong tag, the client
/// could join parts of other bytes to it.
pub(crate) fn weaken_tag_of_coded(request: &HeaderMap, response: &mut HeaderMap) {
    let Some(tag) = response.get(ETAG).map(|tag| trim(tag.as_bytes())) else { return };
    let mut named = field_lines(request, &IF_NONE_MATCH).flat_map(list_members);
    if !named.any(|member| member == tag) {
        weaken_strong_tag(response);
    }
}

/// Returns whether a request asks for a range by a date (`If-Range`). A date does not tell whether the
/// client has a part of the content as it is or as it was coded.
pub(crate) fn has_range_by_date(request: &HeaderMap) -> bool {
    let condition = request.get(IF_RANGE).filter(|_| request.contains_key(RANGE));
    condition.is_some_and(|condition| !condition.as_bytes().contains(&b'"'))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn content_is_found_by_the_method_the_status_and_the_length() {
        use BodySize::{None, Sized, Stream};
        let (get, head) = (Method::GET, Method::HEAD);
        let length = [("content-length", "9")];
        for (method, status, size, lines, want) in [
            (&get, 200, Sized(5), &[][..], Content::Present(Some(5))),
            (&get, 200, Sized(0), &[], Content::Empty),
            (&get, 200, None, &[], Content::Empty),
            (&get, 200, Stream, &[], Content::Present(Option::None)),
            (&get, 200, Stream, &length, Content::Present(Some(9))),
            (&get, 304, None, &[], Content::Described),
            (&head, 200, Sized(5), &[], Content::Present(Some(5))),
            (&head, 200, Sized(0), &length, Content::Present(Some(9))),
            (&head, 200, None, &[("content-length", "0")], Content::Empty),
            (&head, 200, None, &[], Content::Described),
            (&head, 200, Stream, &[], Content::Described),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let got = Content::of(method, status, size, &fields(lines));
            assert_eq!(got, want, "{method} {status} {size:?} {lines:?}");
        }
    }

    #[test]
    fn response_is_coded_by_its_type_and_its_fields() {
        let types = MediaTypes::parse(&["text/*".to_owned()]).unwrap();
        let html = ("content-type", "text/html");
        for (status, lines, want) in [
            (200, &[html][..], true),
            (404, &[html], true),
            (500, &[html, ("vary", "accept")], true),
            (200, &[html, ("vary", "*")], true),
            (200, &[], false),
            (304, &[], true),
            (304, &[("content-type", "image/png")], false),
            (200, &[("content-type", "image/png")], false),
            (200, &[("content-type", "text/event-stream")], false),
            (200, &[html, ("vary", "Cookie, ACCEPT-ENCODING")], false),
            (200, &[html, ("content-encoding", "identity")], false),
            (200, &[html, ("cache-control", "no-transform")], false),
            (101, &[html], false),
            (204, &[html], false),
            (206, &[html], false),
            (416, &[html, ("content-range", "bytes */9")], false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let response = fields(lines);
            let got = may_be_streamed_coded(status, &response, VaryOrigin::Handler, &types);
            assert_eq!(got, want, "{status} {lines:?}");
        }
        let varies = fields(&[html, ("vary", "accept-encoding")]);
        assert!(may_be_streamed_coded(StatusCode::OK, &varies, VaryOrigin::Cache, &types));
    }

    #[test]
    fn fields_describe_the_coding() {
        let mut response = fields(&[
            ("etag", "\"a\""),
            ("content-length", "5"),
            ("accept-ranges", "bytes"),
            ("vary", "Cookie"),
        ]);
        describe_coding(&mut response, ContentCoding::Gzip);
        vary_on_coding(&mut response);
        for (name, want) in [
            ("etag", Some("W/\"a\"")),
            ("content-encoding", Some("gzip")),
            ("vary", Some("Cookie, accept-encoding")),
            ("content-length", None),
            ("accept-ranges", None),
        ] {
            assert_eq!(response.get(name).map(|value| value.to_str().unwrap()), want, "{name}");
        }
        let mut star = fields(&[("vary", "*")]);
        vary_on_coding(&mut star);
        assert_eq!(star.get(VARY).unwrap(), "*");
    }

    #[test]
    fn tag_stays_strong_if_the_request_names_it() {
        for (named, tag, want) in [
            (None, "\"a\"", "W/\"a\""),
            (Some("\"b\", \"a\""), "\"a\"", "\"a\""),
            (Some("W/\"a\""), "\"a\"", "W/\"a\""),
            (Some("*"), "\"a\"", "W/\"a\""),
            (None, "W/\"a\"", "W/\"a\""),
            (None, "invalid", "invalid"),
        ] {
            let request: Vec<_> = named.map(|tags| ("if-none-match", tags)).into_iter().collect();
            let mut response = fields(&[("etag", tag)]);
            weaken_tag_of_coded(&fields(&request), &mut response);
            assert_eq!(response.get(ETAG).unwrap(), want, "{named:?}");
        }
    }

    #[test]
    fn range_by_date_is_found() {
        let range = ("range", "bytes=5-");
        for (lines, want) in [
            (&[range, ("if-range", "Tue, 14 Nov 2023 22:13:20 GMT")][..], true),
            (&[range, ("if-range", "\"a\"")], false),
            (&[range, ("if-range", "W/\"a\"")], false),
            (&[range], false),
            (&[("if-range", "Tue, 14 Nov 2023 22:13:20 GMT")], false),
        ] {
            assert_eq!(has_range_by_date(&fields(lines)), want, "{lines:?}");
        }
    }
}
