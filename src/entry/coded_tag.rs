//! The entity tags of coded copies of stored responses.
//!
//! The entity tag of a copy is `"OPAQUE~CODING-DIGEST"`. OPAQUE is the entity tag of the stored
//! response without its quotes and without `W/`. CODING is the name of the content coding. DIGEST is
//! a digest of the bytes of the copy, in 16 hexadecimal digits. The tag is strong, because copies
//! with other bytes have other digests (RFC 9110 section 8.8.3.3).

use actix_web::http::header::HeaderValue;

use super::content_coding::ContentCoding;

/// The number of hexadecimal digits of a digest.
const DIGITS: usize = 16;

/// Returns the entity tag of a copy in this coding of a response with the entity tag `stored`.
pub(crate) fn coded_tag(
    stored: Option<&HeaderValue>,
    coding: ContentCoding,
    digest: u64,
) -> Option<HeaderValue> {
    let opaque = stored.and_then(|tag| opaque_part(tag.as_bytes())).unwrap_or_default();
    let suffix = format!("~{coding}-{digest:016x}\"");
    HeaderValue::from_bytes(&[b"\"", opaque, suffix.as_bytes()].concat()).ok()
}

/// The parts of the entity tag of a coded copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodedTag<'a> {
    /// The entity tag of the stored response, without its quotes and without `W/`.
    pub(crate) opaque: &'a [u8],
    pub(crate) coding: ContentCoding,
}

impl<'a> CodedTag<'a> {
    /// Parses an entity tag. Also accepts a weak one, because other caches may weaken tags.
    pub(crate) fn parse(tag: &'a [u8]) -> Option<Self> {
        let (rest, digest) = opaque_part(tag)?.rsplit_at_checked(DIGITS)?;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let rest = rest.strip_suffix(b"-").filter(|_| digest.iter().all(is_digit))?;
        ContentCoding::ALL.into_iter().find_map(|coding| {
            let rest = rest.strip_suffix(coding.name().as_bytes())?;
            Some(Self { opaque: rest.strip_suffix(b"~")?, coding })
        })
    }
}

/// Returns an entity tag without its quotes and without `W/`.
pub(crate) fn opaque_part(tag: &[u8]) -> Option<&[u8]> {
    let quoted = tag.strip_prefix(b"W/").unwrap_or(tag);
    quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

trait RsplitAt {
    /// Splits off the last `count` elements.
    fn rsplit_at_checked(&self, count: usize) -> Option<(&Self, &Self)>;
}

impl RsplitAt for [u8] {
    fn rsplit_at_checked(&self, count: usize) -> Option<(&Self, &Self)> {
        self.split_at_checked(self.len().checked_sub(count)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tag_of_a_copy_contains_the_tag_of_the_response() {
        for (stored, want) in [
            (Some("\"a\""), "\"a~br-00000000000000ff\""),
            (Some("W/\"a~b\""), "\"a~b~br-00000000000000ff\""),
            (Some("\"\""), "\"~br-00000000000000ff\""),
            (Some("invalid"), "\"~br-00000000000000ff\""),
            (None, "\"~br-00000000000000ff\""),
        ] {
            let stored = stored.map(HeaderValue::from_static);
            let tag = coded_tag(stored.as_ref(), ContentCoding::Brotli, 255).unwrap();
            assert_eq!(tag, want);
        }
    }

    #[test]
    fn other_tags_are_not_taken_for_those_of_copies() {
        for tag in [
            "",
            "\"",
            "\"\"",
            "\"a\"",
            "a~br-00000000000000ff",
            "\"~br-0000000000000ff\"",
            "\"a~br-00000000000000FF\"",
            "\"a~br-0000000000000xff\"",
            "\"a~brx00000000000000ff\"",
            "\"abr-00000000000000ff\"",
            "\"a~deflate-00000000000000ff\"",
            "\"00000000000000ff\"",
        ] {
            assert_eq!(CodedTag::parse(tag.as_bytes()), None, "{tag}");
        }
        let weak = CodedTag::parse(b"W/\"a~gzip-0123456789abcdef\"").unwrap();
        assert_eq!((weak.opaque, weak.coding), (&b"a"[..], ContentCoding::Gzip));
    }

    proptest! {
        #[test]
        fn tag_is_parsed_back(
            opaque in "[!#-~]{0,20}", weak: bool, digest: u64, coding in 0..3_usize,
        ) {
            let coding = ContentCoding::ALL[coding];
            let stored = format!("{}\"{opaque}\"", if weak { "W/" } else { "" });
            let stored = HeaderValue::try_from(stored).unwrap();
            let tag = coded_tag(Some(&stored), coding, digest).unwrap();
            let parsed = CodedTag::parse(tag.as_bytes()).unwrap();
            prop_assert_eq!(parsed, CodedTag { opaque: opaque.as_bytes(), coding });
        }
    }
}
