//! The choice between the stored body of a response and its copies in content codings (RFC 9110
//! section 12.5.3), by the request's preferences and by the entity tags that it names.

use actix_web::http::{
    StatusCode, Version,
    header::{CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE},
};
use bytes::Bytes;

use crate::{
    entry::{
        coded_copy::CodedCopies,
        coded_tag::{CodedTag, opaque_part},
        content_coding::ContentCoding,
        response::StoredResponse,
    },
    policy::compression::CompiledCompression,
    semantics::{
        accept_encoding::AcceptedCodings,
        coded_copies::forbids_transformation,
        compression::{weak_tag_of, weaken_strong_tag},
        fields::{EntityTag, field_lines, list_members, trim},
        special_fields::SpecialFields,
    },
};

/// The representation of a stored response that a client gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Representation {
    /// The body as the handler sent it.
    #[default]
    Stored,
    /// The copy in this content coding.
    Copy(ContentCoding),
    /// The body in this content coding, coded while the client receives it, because there is no copy
    /// yet.
    Streamed(ContentCoding),
    /// A coded body that the client has already, with this entity tag. The client gets a 304. The
    /// cache may not have the copy any more, may have made it again with other bytes, or may have
    /// coded the body while it was sent.
    OfClient(HeaderValue),
}

/// The representation that a client gets now, and what it could get better.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) representation: Representation,
    /// The content coding that the client prefers, if the cache has not made its copy yet.
    pub(crate) missing: Option<ContentCoding>,
    pub(crate) acceptance: Acceptance,
}

/// Whether the client accepts the chosen representation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Acceptance {
    #[default]
    Accepted,
    /// The client refuses a response without a content coding (`identity;q=0`), and no coding that it
    /// accepts is of use for the body.
    Refused,
}

/// Whether a response can be coded while it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamedCoding {
    Possible,
    Impossible,
}

impl StreamedCoding {
    /// Returns whether a response by this version of HTTP can have a body of unknown length. In HTTP/1.0,
    /// such a body has no end that can be told from a broken connection, and clients do not know the
    /// chunks by which actix sends it (RFC 9112 section 6.1).
    pub(crate) fn by(version: Version) -> Self {
        if version >= Version::HTTP_11 { Self::Possible } else { Self::Impossible }
    }
}

/// Chooses the representation of a stored response for a request. `special` are the special fields that
/// the request may have, and `compression` are the settings of the policy that applies to it.
pub(crate) fn choose(
    request: &HeaderMap,
    special: SpecialFields,
    stored: &StoredResponse,
    compression: Option<&CompiledCompression>,
    streamed_coding: StreamedCoding,
) -> Choice {
    let (Some(compression), Some(coded)) = (compression, &stored.coded) else {
        return Choice::default();
    };
    // RFC 9111 section 5.2.1.6.
    if special.has(SpecialFields::DIRECTIVES) && forbids_transformation(request) {
        return Choice::default();
    }
    let accepted = AcceptedCodings::of(request);
    let preferred = accepted.preferred(&compression.codings);
    let missing = preferred.first().filter(|coding| !coded.is_made(*coding));
    let best = preferred.iter().find(|coding| coded.usable(*coding).is_some());
    let is_streamed = |coding: &ContentCoding| {
        best.is_none() && streamed_coding == StreamedCoding::Possible && coded.are_streamed(*coding)
    };
    let streamed = preferred.first().filter(is_streamed);
    let acceptance = if best.or(streamed).is_none() && !accepted.accepts_identity() {
        Acceptance::Refused
    } else {
        Acceptance::Accepted
    };
    let known = if stored.status == StatusCode::OK && special.may_change_reply() {
        known_to_client(request, stored, coded, accepted, best)
    } else {
        None
    };
    // A range is cut from the stored body, if the client accepts that.
    let is_range = special.has(SpecialFields::RANGE) && request.contains_key(RANGE);
    let streamed = streamed.filter(|_| !is_range || !accepted.accepts_identity());
    let by_preference = || match (best, streamed) {
        (Some(coding), _) => Representation::Copy(coding),
        (None, Some(coding)) => Representation::Streamed(coding),
        (None, None) => Representation::Stored,
    };
    Choice { representation: known.unwrap_or_else(by_preference), missing, acceptance }
}

/// Returns the representation whose entity tag the request names in `If-None-Match`, or in `If-Range`
/// if it asks for a range. Clients get no representation in a coding that they do not accept.
fn known_to_client(
    request: &HeaderMap,
    stored: &StoredResponse,
    coded: &CodedCopies,
    accepted: AcceptedCodings,
    best: Option<ContentCoding>,
) -> Option<Representation> {
    let copy_with = |is_named: &dyn Fn(&[u8]) -> bool| {
        // The copy that the client prefers comes first: other caches send the tags of all copies
        // that they have, and need to know the one that this request selects.
        let codings = best.into_iter().chain(ContentCoding::ALL);
        let mut acceptable = codings.filter(|coding| accepted.accepts(*coding));
        let found = acceptable.find(|coding| {
            coded.usable(*coding).is_some_and(|copy| is_named(copy.etag.as_bytes()))
        });
        found.map(Representation::Copy)
    };
    let tag = stored.lines(&ETAG).next().map(|tag| trim(tag.as_bytes()));
    if request.contains_key(IF_NONE_MATCH) {
        let members = || field_lines(request, &IF_NONE_MATCH).flat_map(list_members);
        let is_named = |tag: &[u8]| members().any(|member| weak_eq(member, tag));
        let of_client = || {
            let opaque = tag.and_then(opaque_part)?;
            let tag = members().find(|member| {
                let copy = CodedTag::parse(member);
                copy.is_some_and(|copy| copy.opaque == opaque && accepted.accepts(copy.coding))
            })?;
            let strong = tag.strip_prefix(b"W/").unwrap_or(tag);
            HeaderValue::from_bytes(strong).ok().map(Representation::OfClient)
        };
        let as_stored = || {
            let known = tag.filter(|tag| accepted.accepts_identity() && is_named(tag))?;
            if members().any(|member| member == known) {
                return Some(Representation::Stored);
            }
            // The client may have the body as it was coded while it was sent. With the strong tag, it
            // could join a range of the stored body to it.
            let weak = stored.lines(&ETAG).next().and_then(weak_tag_of);
            Some(weak.map_or(Representation::Stored, Representation::OfClient))
        };
        return copy_with(&is_named).or_else(of_client).or_else(as_stored);
    }
    if request.contains_key(IF_RANGE) && request.contains_key(RANGE) {
        let wanted = field_lines(request, &IF_RANGE).next().map(trim)?;
        let is_named = |tag: &[u8]| tag == wanted;
        let as_stored = || {
            let is_wanted = accepted.accepts_identity() && tag.is_some_and(is_named);
            is_wanted.then_some(Representation::Stored)
        };
        return copy_with(&is_named).or_else(as_stored);
    }
    None
}

fn weak_eq(one: &[u8], other: &[u8]) -> bool {
    let equal = || Some(EntityTag::parse(one)?.weak_eq(EntityTag::parse(other)?));
    equal().unwrap_or(false)
}

impl Representation {
    /// Returns the bytes of the representation. A representation that the client has already is not
    /// sent, so its bytes do not matter.
    pub(crate) fn body<'a>(&self, stored: &'a StoredResponse) -> &'a Bytes {
        match self {
            Self::Copy(coding) => {
                stored.usable_copy(*coding).map_or(&stored.body, |copy| copy.bytes)
            }
            Self::Stored | Self::Streamed(_) | Self::OfClient(_) => &stored.body,
        }
    }

    /// Returns the entity tag of the representation, for comparisons that ignore whether it is weak.
    pub(crate) fn etag<'a>(&'a self, stored: &'a StoredResponse) -> Option<&'a HeaderValue> {
        let of_stored = || stored.lines(&ETAG).next();
        match self {
            Self::Copy(coding) => {
                stored.usable_copy(*coding).map_or_else(of_stored, |copy| Some(copy.etag))
            }
            Self::OfClient(tag) => Some(tag),
            Self::Stored | Self::Streamed(_) => of_stored(),
        }
    }

    /// Writes the coding and the entity tag of the representation into the fields of the stored
    /// response.
    pub(crate) fn write(&self, stored: &StoredResponse, fields: &mut HeaderMap) {
        match self {
            Self::Stored => {}
            // The coding is written when the response is coded.
            Self::Streamed(_) => weaken_strong_tag(fields),
            Self::OfClient(tag) => {
                fields.insert(ETAG, tag.clone());
            }
            Self::Copy(coding) => {
                if let Some(copy) = stored.usable_copy(*coding) {
                    fields.insert(ETAG, copy.etag.clone());
                    let name = HeaderValue::from_static(copy.coding.name());
                    fields.insert(CONTENT_ENCODING, name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, HeaderName};

    use super::*;
    use crate::entry::{
        coded_copy::{CodedCopy, ContentDigest},
        fixtures::stored,
    };

    /// A page with the entity tag `"p"`, a copy in gzip, and the knowledge that zstd is of no use.
    fn page() -> StoredResponse {
        let mut page = stored(0, &[]);
        page.fields = [(ETAG, HeaderValue::from_static("\"p\""))].into_iter().collect();
        page.allow_coded_copies(None);
        let content = ContentDigest::of(&page.body);
        page.with_coded_copy(CodedCopy::new(ContentCoding::Gzip, content, Bytes::from_static(b"z")))
            .with_coded_copy(CodedCopy::useless(ContentCoding::Zstd, content))
    }

    fn request(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let line = |(name, value): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(line).collect()
    }

    fn choose_for(
        request: &HeaderMap,
        stored: &StoredResponse,
        compression: Option<&CompiledCompression>,
    ) -> Choice {
        choose(request, SpecialFields::ALL, stored, compression, StreamedCoding::Possible)
    }

    fn choice(fields: &[(HeaderName, &str)]) -> Choice {
        choose_for(&request(fields), &page(), Some(&CompiledCompression::with_all_codings()))
    }

    #[test]
    fn best_copy_that_exists_is_chosen_and_a_better_one_is_missing() {
        use ContentCoding::{Brotli, Gzip};
        let (copy, stored) = (Representation::Copy(Gzip), Representation::Stored);
        let streamed = Representation::Streamed(Brotli);
        for (accepted, representation, missing, acceptance) in [
            ("gzip", &copy, None, Acceptance::Accepted),
            ("gzip, br", &copy, Some(Brotli), Acceptance::Accepted),
            ("gzip, br;q=0.5", &copy, None, Acceptance::Accepted),
            ("br", &streamed, Some(Brotli), Acceptance::Accepted),
            ("br, identity;q=0", &streamed, Some(Brotli), Acceptance::Accepted),
            ("zstd", &stored, None, Acceptance::Accepted),
            ("zstd, gzip", &copy, None, Acceptance::Accepted),
            ("zstd, *;q=0", &stored, None, Acceptance::Refused),
            ("gzip, identity;q=0", &copy, None, Acceptance::Accepted),
            ("identity, gzip;q=0.5", &stored, None, Acceptance::Accepted),
            ("", &stored, None, Acceptance::Accepted),
        ] {
            let want = Choice { representation: representation.clone(), missing, acceptance };
            assert_eq!(choice(&[(ACCEPT_ENCODING, accepted)]), want, "{accepted}");
        }
        let fields = [(ACCEPT_ENCODING, "gzip"), (CACHE_CONTROL, "no-transform")];
        assert_eq!(choice(&fields), Choice::default());
    }

    #[test]
    fn responses_and_policies_without_copies_are_sent_as_stored() {
        let fields = request(&[(ACCEPT_ENCODING, "gzip, identity;q=0")]);
        assert_eq!(choose_for(&fields, &page(), None), Choice::default());
        let plain = StoredResponse { coded: None, ..page() };
        let compression = CompiledCompression::with_all_codings();
        assert_eq!(choose_for(&fields, &plain, Some(&compression)), Choice::default());
    }

    #[test]
    fn body_is_not_coded_while_it_is_sent_by_http_1_0() {
        let compression = CompiledCompression::with_all_codings();
        for (accepted, version, want) in [
            ("br", Version::HTTP_10, (Representation::Stored, Acceptance::Accepted)),
            ("br, *;q=0", Version::HTTP_10, (Representation::Stored, Acceptance::Refused)),
            (
                "br",
                Version::HTTP_2,
                (Representation::Streamed(ContentCoding::Brotli), Acceptance::Accepted),
            ),
            (
                "gzip",
                Version::HTTP_10,
                (Representation::Copy(ContentCoding::Gzip), Acceptance::Accepted),
            ),
        ] {
            let (fields, streamed) = ([(ACCEPT_ENCODING, accepted)], StreamedCoding::by(version));
            let all = SpecialFields::ALL;
            let got = choose(&request(&fields), all, &page(), Some(&compression), streamed);
            assert_eq!((got.representation, got.acceptance), want, "{accepted} by {version:?}");
        }
    }

    #[test]
    fn representation_that_the_request_names_is_chosen() {
        let gzip = page().usable_copy(ContentCoding::Gzip).unwrap().etag.clone();
        let gzip = gzip.to_str().unwrap();
        let (copy, stored) = (Representation::Copy(ContentCoding::Gzip), Representation::Stored);
        let old = "\"p~br-0123456789abcdef\"";
        let of_client = Representation::OfClient(HeaderValue::from_static(old));
        let weak = Representation::OfClient(HeaderValue::from_static("W/\"p\""));
        for (accepted, field, value, want) in [
            ("gzip", IF_NONE_MATCH, gzip, &copy),
            ("", IF_NONE_MATCH, gzip, &stored),
            ("br", IF_NONE_MATCH, old, &of_client),
            ("gzip", IF_NONE_MATCH, old, &copy),
            ("gzip", IF_NONE_MATCH, "\"p\"", &stored),
            ("gzip", IF_NONE_MATCH, "W/\"p\"", &weak),
            ("gzip", IF_NONE_MATCH, "W/\"p\", \"p\"", &stored),
            ("gzip, identity;q=0", IF_NONE_MATCH, "W/\"p\"", &copy),
            ("gzip, identity;q=0", IF_NONE_MATCH, "\"p\"", &copy),
            ("gzip", IF_NONE_MATCH, "\"q\"", &copy),
            ("br", IF_NONE_MATCH, "\"q~br-0123456789abcdef\"", &stored),
            ("gzip", IF_RANGE, "\"p\"", &stored),
            ("gzip", IF_RANGE, "W/\"p\"", &copy),
            ("gzip", IF_RANGE, gzip, &copy),
            ("br", IF_RANGE, gzip, &stored),
            ("br", IF_RANGE, old, &stored),
            ("br, identity;q=0", IF_RANGE, old, &Representation::Streamed(ContentCoding::Brotli)),
        ] {
            let fields = [(ACCEPT_ENCODING, accepted), (field.clone(), value), (RANGE, "bytes=0-")];
            let got = choice(&fields).representation;
            assert_eq!(got, *want, "{accepted:?} {field}: {value}");
        }
        let error = StoredResponse { status: StatusCode::NOT_FOUND, ..page() };
        let fields = request(&[(ACCEPT_ENCODING, "gzip"), (IF_NONE_MATCH, "\"p\"")]);
        let compression = CompiledCompression::with_all_codings();
        assert_eq!(choose_for(&fields, &error, Some(&compression)).representation, copy);
    }

    #[test]
    fn fields_and_body_are_those_of_the_representation() {
        let page = page();
        let mut fields = request(&[(ETAG, "\"p\"")]);
        Representation::Stored.write(&page, &mut fields);
        assert_eq!((fields.get(ETAG).unwrap(), fields.len()), (&"\"p\"".parse().unwrap(), 1));
        Representation::Streamed(ContentCoding::Gzip).write(&page, &mut fields);
        assert_eq!((fields.get(ETAG).unwrap(), fields.len()), (&"W/\"p\"".parse().unwrap(), 1));
        let copy = Representation::Copy(ContentCoding::Gzip);
        copy.write(&page, &mut fields);
        assert_eq!(fields.get(CONTENT_ENCODING).unwrap(), "gzip");
        assert_eq!(fields.get(ETAG), copy.etag(&page));
        assert_eq!((&copy.body(&page)[..], &Representation::Stored.body(&page)[..]), {
            (&b"z"[..], &b"body"[..])
        });
    }
}
