//! Coded copies: the body of a stored response in a content coding.

use std::hash::Hasher as _;

use actix_web::http::header::HeaderValue;
use bytes::Bytes;
use siphasher::{
    sip::SipHasher13,
    sip128::{Hasher128 as _, SipHasher13 as SipHasher128},
};

use super::{coded_tag::coded_tag, content_coding::ContentCoding};

/// The keys of the digests. All processes and builds make equal digests, because they share copies
/// by a store.
const KEYS: (u64, u64) = (0x636f_6465_6420_636f, 0x7079_2064_6967_6573);

/// A digest of the body of a stored response. A copy belongs to each response with this body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ContentDigest([u8; 16]);

impl ContentDigest {
    /// Returns the digest of a body.
    pub(crate) fn of(body: &[u8]) -> Self {
        let mut hasher = SipHasher128::new_with_keys(KEYS.0, KEYS.1);
        hasher.write(body);
        Self(hasher.finish128().as_bytes())
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The body of a stored response in a content coding, or the information that the coding is of no
/// use for this body.
///
/// The cache makes copies for [`Policy::compress`](crate::Policy::compress), and passes them to
/// [`Store::put_coded_copy`](crate::store::Store::put_coded_copy).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodedCopy {
    coding: ContentCoding,
    content: ContentDigest,
    body: CopyBody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CopyBody {
    Coded {
        bytes: Bytes,
        digest: u64,
    },
    Useless,
    /// The coding is of use, but the store has no room for the coded bytes.
    TooLarge,
}

impl CodedCopy {
    /// Makes the copy of a body with this digest from the coded bytes.
    pub(crate) fn new(coding: ContentCoding, content: ContentDigest, bytes: Bytes) -> Self {
        let mut hasher = SipHasher13::new_with_keys(KEYS.0, KEYS.1);
        hasher.write(&bytes);
        Self { coding, content, body: CopyBody::Coded { bytes, digest: hasher.finish() } }
    }

    /// Makes the information that this coding is of no use for a body with this digest, because the
    /// coded bytes are not fewer.
    pub(crate) const fn useless(coding: ContentCoding, content: ContentDigest) -> Self {
        Self { coding, content, body: CopyBody::Useless }
    }

    /// Returns the same without the coded bytes, for which the store has no room. The cache does not
    /// make the copy again.
    pub(crate) const fn without_bytes(&self) -> Self {
        let body = match self.body {
            CopyBody::Useless => CopyBody::Useless,
            CopyBody::Coded { .. } | CopyBody::TooLarge => CopyBody::TooLarge,
        };
        Self { coding: self.coding, content: self.content, body }
    }

    /// Returns the content coding.
    #[must_use]
    pub const fn coding(&self) -> ContentCoding {
        self.coding
    }

    /// Returns the coded bytes, or `None` if the coding is of no use for the body, or the store has no
    /// room for them.
    #[must_use]
    pub const fn bytes(&self) -> Option<&Bytes> {
        match &self.body {
            CopyBody::Coded { bytes, .. } => Some(bytes),
            CopyBody::Useless | CopyBody::TooLarge => None,
        }
    }

    /// Returns the digest of the body of the response.
    pub(crate) const fn content(&self) -> ContentDigest {
        self.content
    }

    /// Returns the entity tag of the copy, if it is one of a response with the entity tag `stored`.
    pub(super) fn etag(&self, stored: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self.body {
            CopyBody::Coded { digest, .. } => coded_tag(stored, self.coding, digest),
            CopyBody::Useless | CopyBody::TooLarge => None,
        }
    }

    fn weight(&self) -> usize {
        self.bytes().map_or(0, Bytes::len)
    }
}

/// The copies of one stored response. A response has this value if the cache may code it, even while
/// there is no copy.
#[derive(Debug, Clone)]
pub(crate) struct CodedCopies {
    content: ContentDigest,
    copies: [Option<Attached>; ContentCoding::ALL.len()],
}

/// A copy of one stored response, with the entity tag that it has as a copy of this response.
#[derive(Debug, Clone)]
struct Attached {
    copy: CodedCopy,
    etag: Option<HeaderValue>,
}

/// A copy that can be sent to clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsableCopy<'a> {
    pub(crate) coding: ContentCoding,
    pub(crate) bytes: &'a Bytes,
    pub(crate) etag: &'a HeaderValue,
}

impl CodedCopies {
    /// Makes the value for a response with this body, without a copy.
    pub(crate) const fn of_content(content: ContentDigest) -> Self {
        Self { content, copies: [const { None }; ContentCoding::ALL.len()] }
    }

    pub(crate) const fn content(&self) -> ContentDigest {
        self.content
    }

    /// Returns the copy in this coding, if there is one and it is of use.
    pub(crate) fn usable(&self, coding: ContentCoding) -> Option<UsableCopy<'_>> {
        let Attached { copy, etag } = self.copies.get(coding.index())?.as_ref()?;
        Some(UsableCopy { coding, bytes: copy.bytes()?, etag: etag.as_ref()? })
    }

    /// Returns whether the cache has made a copy in this coding, or knows that the coding is of no
    /// use.
    pub(crate) fn is_made(&self, coding: ContentCoding) -> bool {
        self.copies.get(coding.index()).is_some_and(Option::is_some)
    }

    /// Returns whether the cache codes the body in this coding while it sends it: whether there is no
    /// copy, but the coding may be of use.
    pub(crate) fn are_streamed(&self, coding: ContentCoding) -> bool {
        let attached = self.copies.get(coding.index()).and_then(Option::as_ref);
        attached.is_none_or(|attached| matches!(attached.copy.body, CopyBody::TooLarge))
    }

    /// Returns all copies, also those that are of no use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CodedCopy> {
        self.copies.iter().flatten().map(|attached| &attached.copy)
    }

    pub(super) fn insert(&mut self, copy: CodedCopy, stored_tag: Option<&HeaderValue>) {
        let etag = copy.etag(stored_tag);
        if let Some(place) = self.copies.get_mut(copy.coding.index()) {
            *place = Some(Attached { copy, etag });
        }
    }

    /// Returns the number of bytes that the copies take in memory.
    pub(crate) fn weight(&self) -> usize {
        let attached = self.copies.iter().flatten();
        let copies: usize = attached
            .map(|Attached { copy, etag }| {
                copy.weight() + etag.as_ref().map_or(0, HeaderValue::len)
            })
            .sum();
        size_of::<Self>() + copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores that several processes share contain these digests, so their values must not change.
    #[test]
    fn digests_are_the_same_in_every_process() {
        let digest = ContentDigest::of(b"body");
        assert_eq!(u128::from_be_bytes(*digest.as_bytes()), 0x87a26766a8795c33587da7d36e80f398);
        let copy = CodedCopy::new(ContentCoding::Gzip, digest, Bytes::from_static(b"coded"));
        assert_eq!(copy.etag(None).unwrap(), "\"~gzip-b9f01eeba59f59ce\"");
    }
}
