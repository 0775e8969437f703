//! Stored responses with coded copies of their bodies.

use actix_web::http::header::ETAG;

use super::{
    coded_copy::{CodedCopies, CodedCopy, ContentDigest, UsableCopy},
    content_coding::ContentCoding,
    response::StoredResponse,
};

impl CodedCopy {
    /// Returns whether the copy was made from a body that is equal to that of `response`.
    #[must_use]
    pub fn belongs_to(&self, response: &StoredResponse) -> bool {
        response.coded.as_ref().is_some_and(|coded| coded.content() == self.content())
    }
}

impl StoredResponse {
    /// Lets the cache make coded copies of the response. `content` is the digest of the body, if it is
    /// known.
    pub(crate) fn allow_coded_copies(&mut self, content: Option<ContentDigest>) {
        let content = content.unwrap_or_else(|| ContentDigest::of(&self.body));
        self.coded = Some(Box::new(CodedCopies::of_content(content)));
    }

    /// Returns the copy in this coding, if there is one and it is of use.
    pub(crate) fn usable_copy(&self, coding: ContentCoding) -> Option<UsableCopy<'_>> {
        self.coded.as_ref()?.usable(coding)
    }

    /// Adds a coded copy, if it [belongs to](CodedCopy::belongs_to) the response.
    #[must_use]
    pub fn with_coded_copy(mut self, copy: CodedCopy) -> Self {
        self.add_coded_copy(copy);
        self
    }

    /// Adds a copy, if it belongs to the response.
    pub(super) fn add_coded_copy(&mut self, copy: CodedCopy) {
        let tag = self.lines(&ETAG).next().cloned();
        if let Some(coded) = self.coded.as_mut().filter(|coded| coded.content() == copy.content()) {
            coded.insert(copy, tag.as_ref());
        }
    }

    /// Returns the response with the copies of `replaced` that it lacks, if the two have equal bodies
    /// and there are such copies.
    pub(super) fn with_copies_of(&self, replaced: &Self) -> Option<Self> {
        let (own, other) = self.coded.as_ref().zip(replaced.coded.as_ref())?;
        if own.content() != other.content() {
            return None;
        }
        let missing: Vec<_> =
            other.iter().filter(|copy| !own.is_made(copy.coding())).cloned().collect();
        if missing.is_empty() {
            return None;
        }
        Some(missing.into_iter().fold(self.clone(), Self::with_coded_copy))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use bytes::Bytes;

    use super::*;
    use crate::entry::fixtures::stored;

    fn codable(body: &'static str, etag: Option<&'static str>) -> StoredResponse {
        let mut response =
            StoredResponse { body: Bytes::from_static(body.as_bytes()), ..stored(0, &[]) };
        let tag = etag.map(|tag| (ETAG, HeaderValue::from_static(tag)));
        response.fields = tag.into_iter().collect();
        response.allow_coded_copies(None);
        response
    }

    fn copy_of(response: &StoredResponse, coding: ContentCoding) -> CodedCopy {
        CodedCopy::new(coding, ContentDigest::of(&response.body), Bytes::from_static(b"coded"))
    }

    #[test]
    fn copy_belongs_to_responses_with_an_equal_body() {
        let (one, same, other) =
            (codable("a", None), codable("a", Some("\"x\"")), codable("b", None));
        let copy = copy_of(&one, ContentCoding::Gzip);
        assert!(copy.belongs_to(&one) && copy.belongs_to(&same) && !copy.belongs_to(&other));
        assert!(!copy.belongs_to(&StoredResponse { coded: None, ..same.clone() }));
        for (mut response, want) in [(same, true), (other, false)] {
            response.add_coded_copy(copy.clone());
            assert_eq!(response.usable_copy(ContentCoding::Gzip).is_some(), want);
            assert!(response.usable_copy(ContentCoding::Brotli).is_none());
        }
    }

    #[test]
    fn successor_with_an_equal_body_takes_over_copies_under_its_own_tag() {
        let mut old = codable("a", Some("\"1\""));
        old.add_coded_copy(copy_of(&old, ContentCoding::Gzip));
        old.add_coded_copy(CodedCopy::useless(ContentCoding::Zstd, ContentDigest::of(b"a")));
        let new = codable("a", Some("W/\"2\"")).with_copies_of(&old).unwrap();
        let copy = new.usable_copy(ContentCoding::Gzip).unwrap();
        assert!(copy.etag.to_str().unwrap().starts_with("\"2~gzip-"), "{:?}", copy.etag);
        let coded = new.coded.as_ref().unwrap();
        assert!(coded.is_made(ContentCoding::Zstd) && coded.usable(ContentCoding::Zstd).is_none());
        assert!(new.with_copies_of(&old).is_none(), "there is nothing to take over");
        assert!(codable("b", None).with_copies_of(&old).is_none(), "another body");
        let plain = StoredResponse { coded: None, ..codable("a", None) };
        assert!(plain.with_copies_of(&old).is_none() && old.with_copies_of(&plain).is_none());
    }

    #[test]
    fn copies_count_toward_the_weight() {
        let plain = codable("a", None);
        let with = |copy: CodedCopy| {
            let mut response = plain.clone();
            response.add_coded_copy(copy);
            response
        };
        let content = ContentDigest::of(b"a");
        let useless = with(CodedCopy::useless(ContentCoding::Gzip, content));
        assert_eq!(useless.weight(), plain.weight());
        let copy = copy_of(&plain, ContentCoding::Gzip);
        let tag = copy.etag(None).unwrap().len();
        assert_eq!(with(copy.clone()).weight(), plain.weight() + 5 + tag);
        let too_large = copy.without_bytes();
        assert_eq!((too_large.bytes(), too_large.without_bytes()), (None, too_large.clone()));
        let useless = CodedCopy::useless(ContentCoding::Gzip, content);
        assert_eq!(useless.without_bytes(), useless);
        for (copy, is_streamed) in [(copy, false), (too_large, true), (useless, false)] {
            let coded = with(copy).coded.unwrap();
            assert_eq!(coded.are_streamed(ContentCoding::Gzip), is_streamed);
            assert!(coded.is_made(ContentCoding::Gzip));
            assert!(coded.are_streamed(ContentCoding::Zstd) && !coded.is_made(ContentCoding::Zstd));
        }
    }
}
