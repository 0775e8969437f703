//! Selection of the variant of a cache key that matches a request.
//!
//! The selecting fields of a key are the request fields whose values choose the variant, for
//! example those in `Vary`. The discriminator of a request contains further properties of the
//! request that may change the response: the forwarded host and scheme, and the position of the
//! cache among nested caches. A response answers only requests with an equal discriminator.

use std::{borrow::Cow, fmt, iter, sync::LazyLock};

use actix_web::http::header::HeaderName;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use crate::{
    clock::Timestamp,
    entry::{
        content_coding::ContentCoding,
        length_prefixed::{append_optional, append_part},
        response::{Audience, StoredResponse},
    },
};

/// The values by which a request selects a variant, and the time of the request.
///
/// A store may return all variants of a key and ignore the selector. A store that keeps each
/// variant under its own id calls [`variant`](Self::variant) with the selecting fields of the key,
/// and returns the variant with that id:
///
/// ```
/// use std::{collections::HashMap, sync::Arc};
///
/// use actix_web::http::header::HeaderName;
/// use actix_web_cache::store::{Selector, StoredResponse, VariantId, Variants};
///
/// /// The stored responses of one key.
/// struct Entry {
///     selecting_fields: Vec<HeaderName>,
///     variants: HashMap<VariantId, Arc<StoredResponse>>,
/// }
///
/// impl Entry {
///     fn find(&self, selector: &Selector<'_>) -> Variants {
///         let id = selector.variant(&self.selecting_fields);
///         Variants::new(&self.selecting_fields, self.variants.get(&id).cloned())
///     }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Selector<'a> {
    request: &'a dyn Selects,
    discriminator: &'a [u8],
    now: Timestamp,
}

/// A source of the request field values that choose a variant.
pub(crate) trait Selects: Sync {
    /// Returns the normalized value of a request field, or `None` if the request lacks the field.
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>>;

    /// Returns whether the client accepts a content coding of actix's `Compress`.
    fn accepts_coding(&self) -> bool;

    /// Returns whether the client accepts the codings in `Content-Encoding` of a response.
    fn decodes(&self, response: &StoredResponse) -> bool;

    /// Returns the content coding in which the client prefers a copy of a stored response, if the
    /// policy has such copies.
    fn preferred_coding(&self) -> Option<ContentCoding>;
}

impl<'a> Selector<'a> {
    pub(crate) const fn new(
        request: &'a dyn Selects,
        discriminator: &'a [u8],
        now: Timestamp,
    ) -> Self {
        Self { request, discriminator, now }
    }

    /// Returns the time of the request by the clock of the cache.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the discriminator of the request.
    pub(crate) const fn discriminator(&self) -> &'a [u8] {
        self.discriminator
    }

    /// Returns whether the request selects this response among the responses of one key.
    #[must_use]
    pub fn selects(&self, response: &StoredResponse) -> bool {
        *response.discriminator == *self.discriminator
            && self.matches_fields(response)
            && match response.audience {
                Audience::Everyone => true,
                Audience::ClientsWithoutCodings => !self.request.accepts_coding(),
                Audience::ClientsThatDecode => self.request.decodes(response),
            }
    }

    /// Returns the content coding in which the client prefers a coded copy, or `None` if the cache
    /// sends it no such copy. A store whose lookups cost a round trip reads the copy in this coding
    /// together with the response.
    #[must_use]
    pub fn preferred_coding(&self) -> Option<ContentCoding> {
        self.request.preferred_coding()
    }

    /// Returns whether the request has the values that the response recorded for its selecting
    /// fields. This method does not compare the discriminators.
    pub(crate) fn matches_fields(&self, response: &StoredResponse) -> bool {
        let mut selecting = response.selecting.iter();
        selecting.all(|(name, recorded)| self.request.value(name).as_deref() == recorded.as_deref())
    }

    /// Computes the id of the variant that the request selects. `selecting_fields` are the
    /// selecting fields of the key.
    #[must_use]
    pub fn variant(&self, selecting_fields: &[HeaderName]) -> VariantId {
        if selecting_fields.is_empty() && self.discriminator.is_empty() {
            return *SINGLE_VARIANT;
        }
        let values = selecting_fields.iter().map(|name| (name, self.request.value(name)));
        VariantId::of(values, self.discriminator)
    }
}

impl fmt::Debug for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("now", &self.now).finish_non_exhaustive()
    }
}

/// The id of a variant among the variants of one key.
///
/// The id is a digest of the discriminator and of the selecting fields with their values. The id of
/// a variant is the same in every process and every build, so stores may write ids to disk or to
/// the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VariantId([u8; 16]);

/// The id of the variant of a key without selecting fields, for requests with an empty discriminator.
/// Most lookups need this id, so it is computed once.
static SINGLE_VARIANT: LazyLock<VariantId> =
    LazyLock::new(|| VariantId::of(iter::empty::<(_, Option<&[u8]>)>(), &[]));

impl VariantId {
    /// Returns the bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn of<'a, V: AsRef<[u8]>>(
        selecting: impl Iterator<Item = (&'a HeaderName, Option<V>)>,
        discriminator: &[u8],
    ) -> Self {
        let mut selecting: SmallVec<[_; 4]> = selecting.collect();
        // The fields are sorted, because two processes may have learned of them in different
        // orders.
        selecting.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let mut digest = Sha256::new();
        append_part(&mut digest, discriminator);
        for (name, value) in &selecting {
            append_part(&mut digest, name.as_str().as_bytes());
            append_optional(&mut digest, value.as_ref().map(AsRef::as_ref));
        }
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest.finalize()) {
            *to = from;
        }
        Self(id)
    }
}

impl StoredResponse {
    /// Returns the id of the variant to which the response belongs.
    #[must_use]
    pub fn variant(&self) -> VariantId {
        let selecting = self.selecting.iter().map(|(name, value)| (name, value.as_ref()));
        VariantId::of(selecting, &self.discriminator)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE};

    use super::*;
    use crate::entry::fixtures::{at, stored};

    struct Fields(Vec<(HeaderName, &'static str)>);

    impl Selects for Fields {
        fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
            let found = self.0.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
        }

        fn accepts_coding(&self) -> bool {
            self.value(&ACCEPT_ENCODING).is_some()
        }

        fn decodes(&self, _: &StoredResponse) -> bool {
            self.value(&ACCEPT_ENCODING).is_some()
        }

        fn preferred_coding(&self) -> Option<ContentCoding> {
            None
        }
    }

    #[test]
    fn response_is_selected_by_the_clients_of_its_audience() {
        for (audience, field, want) in [
            (Audience::Everyone, None, true),
            (Audience::Everyone, Some("gzip"), true),
            (Audience::ClientsWithoutCodings, None, true),
            (Audience::ClientsWithoutCodings, Some("gzip"), false),
            (Audience::ClientsThatDecode, None, false),
            (Audience::ClientsThatDecode, Some("gzip"), true),
        ] {
            let request = Fields(field.map(|value| (ACCEPT_ENCODING, value)).into_iter().collect());
            let response = StoredResponse { audience, ..stored(0, &[]) };
            let selector = Selector::new(&request, b"", at(0));
            assert_eq!(selector.selects(&response), want, "{audience:?} {field:?}");
            assert!(response.same_selection(&stored(0, &[])), "one replaces the other");
        }
    }

    #[test]
    fn request_selects_only_the_response_with_its_values() {
        let request = Fields(vec![(ACCEPT, "a"), (ACCEPT_LANGUAGE, "de")]);
        let selects = |selecting: &[(HeaderName, Option<&str>)], discriminator: &[u8]| {
            let names: Vec<_> = selecting.iter().map(|(name, _)| name.clone()).collect();
            let response =
                StoredResponse { discriminator: Box::from(discriminator), ..stored(0, selecting) };
            let selector = Selector::new(&request, b"x", at(0));
            let selects = selector.variant(&names) == response.variant();
            assert_eq!(selector.selects(&response), selects, "{selecting:?}");
            selects
        };
        for (selecting, discriminator, want) in [
            (&[][..], &b"x"[..], true),
            (&[], b"", false),
            (&[(ACCEPT, Some("a"))], b"x", true),
            (&[(ACCEPT, Some("b"))], b"x", false),
            (&[(ACCEPT, None)], b"x", false),
            (&[(COOKIE, None)], b"x", true),
            (&[(COOKIE, Some(""))], b"x", false),
            (&[(ACCEPT_LANGUAGE, Some("de")), (ACCEPT, Some("a"))], b"x", true),
            (&[(ACCEPT_LANGUAGE, Some("a")), (ACCEPT, Some("de"))], b"x", false),
        ] {
            assert_eq!(selects(selecting, discriminator), want, "{selecting:?}");
        }
    }

    #[test]
    fn variant_does_not_depend_on_the_order_of_selecting_fields() {
        let (one, other) = ((ACCEPT, Some("a")), (COOKIE, Some("b")));
        let id = |selecting: &[(HeaderName, Option<&str>)]| stored(0, selecting).variant();
        assert_eq!(id(&[one.clone(), other.clone()]), id(&[other, one]));
    }

    #[test]
    fn variant_is_the_same_in_every_process() {
        // Stores that several processes share contain this id, so its value must not change.
        let id = stored(0, &[(ACCEPT, Some("text/html"))]).variant();
        assert_eq!(u128::from_be_bytes(id.0), 0xacd2_8af9_7c8a_a521_74e6_cfbc_438a_d2f4);
    }
}
