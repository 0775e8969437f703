//! What a request selects by: how a store that keeps variants apart finds the right one.

use std::{borrow::Cow, fmt};

use actix_web::http::header::HeaderName;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use crate::{clock::Timestamp, entry::response::StoredResponse};

/// What a request has of the fields that may select among variants, and when it came.
///
/// A store that returns all variants of a key need not look at it. One that keeps each on its own
/// asks it for the [`VariantId`] among those that certain fields select, and returns that variant
/// alone.
#[derive(Clone, Copy)]
pub struct Selector<'a> {
    request: &'a dyn Selects,
    discriminator: &'a [u8],
    now: Timestamp,
}

/// Whoever can tell what a request has for a field, as it is compared.
pub(crate) trait Selects: Sync {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>>;
}

impl<'a> Selector<'a> {
    pub(crate) const fn new(
        request: &'a dyn Selects,
        discriminator: &'a [u8],
        now: Timestamp,
    ) -> Self {
        Self { request, discriminator, now }
    }

    /// The time by the cache's clock.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether the request selects a response, of those of its key.
    #[must_use]
    pub fn selects(&self, response: &StoredResponse) -> bool {
        let mut selecting = response.selecting.iter();
        *response.discriminator == *self.discriminator
            && selecting
                .all(|(name, recorded)| self.request.value(name).as_deref() == recorded.as_deref())
    }

    /// The variant that the request selects where these fields select.
    #[must_use]
    pub fn variant(&self, names: &[HeaderName]) -> VariantId {
        let values = names.iter().map(|name| (name, self.request.value(name)));
        VariantId::of(values, self.discriminator)
    }
}

impl fmt::Debug for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What tells a variant from the others of its key: a digest of the fields that select it, with their
/// values. It is the same in every process and for every build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VariantId([u8; 16]);

impl VariantId {
    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn of<'a, V: AsRef<[u8]>>(
        selecting: impl Iterator<Item = (&'a HeaderName, Option<V>)>,
        discriminator: &[u8],
    ) -> Self {
        let mut selecting: SmallVec<[_; 4]> = selecting.collect();
        // Who learnt of the fields in another order means the same variant.
        selecting.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let mut digest = Sha256::new();
        let mut part = |bytes: Option<&[u8]>| {
            let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
            digest.update(length.to_le_bytes());
            digest.update(bytes.unwrap_or_default());
        };
        part(Some(discriminator));
        for (name, value) in &selecting {
            part(Some(name.as_str().as_bytes()));
            part(value.as_ref().map(AsRef::as_ref));
        }
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest.finalize()) {
            *to = from;
        }
        Self(id)
    }
}

impl StoredResponse {
    /// Which of its key's variants it is.
    #[must_use]
    pub fn variant(&self) -> VariantId {
        let selecting = self.selecting.iter().map(|(name, value)| (name, value.as_ref()));
        VariantId::of(selecting, &self.discriminator)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE, COOKIE};

    use super::*;
    use crate::entry::response::tests::{at, stored};

    struct Fields(Vec<(HeaderName, &'static str)>);

    impl Selects for Fields {
        fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
            let found = self.0.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
        }
    }

    #[test]
    fn a_request_selects_the_response_that_has_its_values_and_no_other() {
        let request = Fields(vec![(ACCEPT, "a"), (ACCEPT_LANGUAGE, "de")]);
        let selects = |by: &[(HeaderName, Option<&str>)], discriminator: &[u8]| {
            let names: Vec<_> = by.iter().map(|(name, _)| name.clone()).collect();
            let response =
                StoredResponse { discriminator: Box::from(discriminator), ..stored(0, by) };
            let selector = Selector::new(&request, b"x", at(0));
            let selects = selector.variant(&names) == response.variant();
            assert_eq!(selector.selects(&response), selects, "{by:?}");
            selects
        };
        for (by, discriminator, want) in [
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
            assert_eq!(selects(by, discriminator), want, "{by:?}");
        }
    }

    #[test]
    fn the_order_in_which_fields_were_learnt_does_not_count() {
        let (one, other) = ((ACCEPT, Some("a")), (COOKIE, Some("b")));
        let id = |by: &[(HeaderName, Option<&str>)]| stored(0, by).variant();
        assert_eq!(id(&[one.clone(), other.clone()]), id(&[other, one]));
    }

    #[test]
    fn a_variant_is_the_same_in_every_process() {
        // Written down: stores beside other processes keep them.
        let id = stored(0, &[(ACCEPT, Some("text/html"))]).variant();
        assert_eq!(u128::from_be_bytes(id.0), 0xa63d_2627_d632_2fb7_ba48_1d81_2397_853c);
    }
}
