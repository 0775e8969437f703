//! Stored responses.
//!
//! The selecting fields of a response are the request fields whose values choose the variant, for
//! example those in `Vary`. The discriminator of a request contains further properties of the
//! request that may change the response: the forwarded host and scheme, and the position of the
//! cache among nested caches. The annotated fields are the response fields that the cache may
//! change for clients.

use std::{sync::OnceLock, time::Duration};

use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, ETAG, EXPIRES, HeaderName, HeaderValue, VARY},
};
use bytes::Bytes;

use crate::{
    clock::Timestamp,
    entry::{
        coded_copy::CodedCopies,
        lifetime::Lifetime,
        response_copy::ResponseCopy,
        stamp::Stamp,
        stored_fields::{FieldLine, StoredFields, line_weight},
        tag::TagId,
        uses::Uses,
        validity::ValidityCheck,
    },
};

/// The response fields that the cache may change or extend for clients (annotated fields). The cache may
/// also add `Date`, which it never changes.
pub(crate) const ANNOTATED_FIELDS: [HeaderName; 3] = [CACHE_CONTROL, EXPIRES, VARY];

/// The selecting fields of a response, each with the value in the request for which the response
/// was made. The value is `None` if the request lacked the field.
pub(crate) type Selecting = Box<[(HeaderName, Option<Bytes>)]>;

/// A complete response, with its freshness lifetime, tags, stamp and selecting fields.
///
/// A stored response is immutable. When the cache stores a response, it copies the fields and the
/// body, so that no larger receive buffer stays in memory.
#[derive(Debug, Clone)]
pub struct StoredResponse {
    pub(crate) status: StatusCode,
    pub(crate) fields: StoredFields,
    pub(crate) body: Bytes,
    pub(crate) lifetime: Lifetime,
    /// The freshness lifetime that the header fields of the response state, even if `lifetime` has
    /// another source.
    pub(crate) stated: Option<Duration>,
    pub(crate) selecting: Selecting,
    /// The discriminator of the request for which the response was made. Only requests with an
    /// equal discriminator may receive the response.
    pub(crate) discriminator: Box<[u8]>,
    pub(crate) audience: Audience,
    /// Whether the handler permits sharing by `public` or `s-maxage`.
    pub(crate) permits_sharing: bool,
    pub(crate) tags: Box<[TagId]>,
    pub(crate) stamp: Stamp,
    pub(crate) client_ttl: Option<Duration>,
    /// The annotated fields, and other fields that the cache changed, as the handler sent them, so
    /// that a 304 can update them. `None` if the cache changed no fields. Added fields that do not count
    /// are `Date`, and those that list tags for a CDN.
    pub(crate) original_fields: Option<Box<[FieldLine]>>,
    pub(crate) etag_source: EtagSource,
    /// The copies of the body in content codings. `None` if the cache may make no such copies.
    pub(crate) coded: Option<Box<CodedCopies>>,
    pub(crate) weak_tag: WeakTag,
    pub(crate) validity_check: ValidityCheck,
    /// The time at which this process received the response or read it from a store, by the
    /// monotonic clock of the process.
    pub(crate) received: Duration,
    pub(crate) uses: Uses,
}

/// A strong entity tag of a response in its weak form, computed at its first use. Each hit for a client
/// that may get the response compressed by another middleware has this tag.
#[derive(Debug, Clone, Default)]
pub(crate) struct WeakTag(OnceLock<Option<Box<HeaderValue>>>);

impl WeakTag {
    pub(crate) fn get_or_make(
        &self,
        make: impl FnOnce() -> Option<HeaderValue>,
    ) -> Option<&HeaderValue> {
        self.0.get_or_init(|| make().map(Box::new)).as_deref()
    }
}

/// The maker of the `ETag` of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum EtagSource {
    /// The handler, or a middleware inside the cache. The response can also have no `ETag`.
    #[default]
    Handler,
    /// The cache made the tag from the content. The handler does not know the tag, so it is only for
    /// clients.
    Cache,
}

/// The clients that a stored response may answer, by the content codings that they accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Audience {
    #[default]
    Everyone,
    /// Clients that accept no coding of actix's `Compress`. The response was made for such a client
    /// and has no coding. `Compress` sends no `Vary` with such a response, although it would encode
    /// the same response for other clients.
    ClientsWithoutCodings,
    /// Clients that accept the codings in `Content-Encoding` of the response. Its handler does not
    /// say by `Vary` that it codes the response only for such clients.
    ClientsThatDecode,
}

impl StoredResponse {
    /// Returns the status code of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the body of the response.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the freshness lifetime of the response, and the rules for its reuse.
    #[must_use]
    pub const fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// Returns the tags (surrogate keys) that are stored with the response. The list lacks the tags
    /// that follow from the key and the variant of the response.
    #[must_use]
    pub fn tags(&self) -> &[TagId] {
        &self.tags
    }

    /// Returns the stamp of the response: the logical time of the store before the handler made the
    /// response. The logical time is a number that grows with each purge or expiry (soft purge).
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the values of all lines of a response field, in the order of the response.
    pub(crate) fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
        self.fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| value)
    }

    /// Returns whether the response has a field.
    pub(crate) fn has_field(&self, name: &HeaderName) -> bool {
        self.fields.values(name).next().is_some()
    }

    /// Returns the first line of `ETag` if the handler sent it.
    pub(crate) fn etag_of_handler(&self) -> Option<&HeaderValue> {
        self.lines(&ETAG).next().filter(|_| self.etag_source == EtagSource::Handler)
    }

    /// Returns the `ETag` that the cache made.
    pub(crate) fn etag_of_cache(&self) -> Option<&HeaderValue> {
        let is_of_cache = self.etag_source == EtagSource::Cache;
        is_of_cache.then(|| self.fields.last_etag()).flatten()
    }

    /// Adds an `ETag` that the cache made.
    pub(crate) fn add_etag_of_cache(&mut self, tag: HeaderValue) {
        self.fields.push_etag(tag);
        self.etag_source = EtagSource::Cache;
        self.weak_tag = WeakTag::default();
    }

    /// Returns the header fields as the handler sent them, without the changes of the cache.
    pub(crate) fn as_handler_sent(&self) -> impl Iterator<Item = &FieldLine> {
        let annotated = |name: &HeaderName| {
            let is_changed = self.original_fields.as_ref().is_some_and(|original| {
                ANNOTATED_FIELDS.contains(name)
                    || original.iter().any(|(changed, _)| changed == name)
            });
            is_changed || (self.etag_source == EtagSource::Cache && *name == ETAG)
        };
        let unchanged = self.fields.iter().filter(move |(name, _)| !annotated(name));
        unchanged.chain(self.original_fields.iter().flat_map(|fields| fields.iter()))
    }

    /// Returns a copy that shares neither its body nor its field values with the response.
    pub(crate) fn copied(&self) -> Self {
        let fields = self.fields.iter().map(|(name, value)| (name, value));
        let ResponseCopy { fields, body } = ResponseCopy::of(fields, &self.body);
        Self { fields, body, weak_tag: WeakTag::default(), ..self.clone() }
    }

    /// Returns the size of the response in memory, in bytes. The size includes the body and its
    /// copies in content codings, the header fields, and the other data of the stored response.
    #[must_use]
    pub fn weight(&self) -> usize {
        let fields = self.fields.weight();
        let selecting: usize = self
            .selecting
            .iter()
            .map(|(name, value)| line_weight(name, value.as_ref().map_or(0, Bytes::len)))
            .sum();
        let original_fields: usize = self
            .original_fields
            .iter()
            .flat_map(|fields| fields.iter())
            .map(|(name, value)| line_weight(name, value.len()))
            .sum();
        let tags = size_of_val(&*self.tags);
        let coded = self.coded.as_ref().map_or(0, |coded| coded.weight());
        let parts = fields + selecting + original_fields + tags + coded;
        size_of::<Self>() + self.body.len() + parts + self.discriminator.len()
    }

    /// Returns the time from `now` until the freshness lifetime and the retention of the response
    /// have ended. After that, the cache does not use the response, and the store can drop it.
    #[must_use]
    pub fn useful_for(&self, now: Timestamp) -> Duration {
        let useful = self.lifetime.freshness.saturating_add(self.lifetime.retention);
        useful.saturating_sub(self.lifetime.age(now))
    }

    /// Returns whether both responses have equal selecting fields, equal values of these fields,
    /// and equal discriminators. The newer one of the two then replaces the other one, even if the
    /// other one has a larger [`Audience`].
    pub(crate) fn same_selection(&self, other: &Self) -> bool {
        let recorded = |name: &HeaderName| {
            other.selecting.iter().find(|(found, _)| found == name).map(|(_, value)| value)
        };
        self.discriminator == other.discriminator
            && self.selecting.len() == other.selecting.len()
            && self.selecting.iter().all(|(name, value)| recorded(name) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::DATE;

    use super::*;
    use crate::entry::fixtures::{at, stored};

    #[test]
    fn response_is_useful_until_its_retention_is_over() {
        let mut response = stored(0, &[]);
        response.lifetime.retention = Duration::from_secs(40);
        for (second, left) in [(0, 100), (60, 40), (99, 1), (100, 0), (500, 0)] {
            assert_eq!(response.useful_for(at(second)).as_secs(), left, "at {second}");
        }
    }

    fn fields(lines: &[(&HeaderName, &'static str)]) -> Box<[(HeaderName, HeaderValue)]> {
        let line = |(name, value): &(&HeaderName, &'static str)| {
            ((*name).clone(), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn annotated_fields_are_returned_as_the_handler_sent_them() {
        let other = HeaderName::from_static("x-a");
        let mut response = stored(0, &[]);
        response.fields =
            fields(&[(&CACHE_CONTROL, "max-age=5"), (&other, "1"), (&EXPIRES, "0"), (&other, "2")])
                .into();
        let sent = |response: &StoredResponse| {
            let line = |(name, value): &(HeaderName, HeaderValue)| {
                format!("{name}: {}", value.to_str().unwrap())
            };
            response.as_handler_sent().map(line).collect::<Vec<_>>()
        };
        let all = ["cache-control: max-age=5", "x-a: 1", "expires: 0", "x-a: 2"];
        assert_eq!(sent(&response), all, "nothing was annotated");
        response.original_fields = Some(fields(&[(&CACHE_CONTROL, "public")]));
        assert_eq!(sent(&response), ["x-a: 1", "x-a: 2", "cache-control: public"]);
        response.original_fields = Some(fields(&[(&other, "3")]));
        assert_eq!(sent(&response), ["x-a: 3"], "another field was changed");
        response.original_fields = Some(fields(&[(&CACHE_CONTROL, "public")]));
        let lines: Vec<_> = response.lines(&other).collect();
        assert_eq!(lines, ["1", "2"], "lines keep their order");
        assert_eq!(response.lines(&DATE).count(), 0);
    }

    #[test]
    fn handler_did_not_send_the_tag_of_the_cache() {
        let mut response = stored(0, &[]);
        response.fields = fields(&[(&DATE, "0"), (&ETAG, "\"a\"")]).into();
        assert_eq!(response.etag_of_handler().unwrap(), "\"a\"");
        assert_eq!((response.etag_of_cache(), response.as_handler_sent().count()), (None, 2));
        response.fields = fields(&[(&DATE, "0")]).into();
        response.add_etag_of_cache(HeaderValue::from_static("W/\"b\""));
        assert_eq!(response.etag_of_cache().unwrap(), "W/\"b\"");
        assert_eq!((response.etag_of_handler(), response.as_handler_sent().count()), (None, 1));
        assert!(response.has_field(&ETAG) && !response.has_field(&EXPIRES));
    }

    #[test]
    fn weight_counts_every_part_of_a_response() {
        let plain = stored(0, &[]);
        let line = || fields(&[(&DATE, "123")]);
        let field = size_of::<(HeaderName, HeaderValue)>() + "date".len() + 3;
        assert_eq!(plain.weight(), size_of::<StoredResponse>() + 4);
        for (case, response, more) in [
            ("body", StoredResponse { body: Bytes::from_static(b"123456"), ..plain.clone() }, 2),
            ("field", StoredResponse { fields: line().into(), ..plain.clone() }, field),
            ("original", StoredResponse { original_fields: Some(line()), ..plain.clone() }, field),
            (
                "discriminator",
                StoredResponse { discriminator: Box::from(&b"xyz"[..]), ..plain.clone() },
                3,
            ),
            ("selecting field", stored(0, &[(DATE, Some("123"))]), field),
            ("absent selecting field", stored(0, &[(DATE, None)]), field - 3),
        ] {
            assert_eq!(response.weight(), plain.weight() + more, "{case}");
        }
    }
}
