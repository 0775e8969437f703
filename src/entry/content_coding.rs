//! The content codings in which the cache can make copies of stored responses.

use std::fmt;

/// A content coding in which the cache can make copies of stored responses
/// ([`Policy::compress`](crate::Policy::compress)).
///
/// A feature of this crate makes each coding available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentCoding {
    /// `br` (RFC 7932; feature `compress-brotli`).
    Brotli,
    /// `zstd` (RFC 8878; feature `compress-zstd`).
    Zstd,
    /// `gzip` (RFC 1952; feature `compress-gzip`).
    Gzip,
}

impl ContentCoding {
    /// All codings, in the order of [`index`](Self::index).
    pub(crate) const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Returns the name of the coding in `Accept-Encoding` and `Content-Encoding`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the coding with this name, in any case. `x-gzip` is another name of `gzip` (RFC 9110
    /// section 8.4.1.3).
    pub(crate) fn of_name(name: &[u8]) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|coding| {
            // Names of other lengths are not compared byte by byte.
            name.len() == coding.name().len() && name.eq_ignore_ascii_case(coding.name().as_bytes())
        });
        found.or_else(|| name.eq_ignore_ascii_case(b"x-gzip").then_some(Self::Gzip))
    }

    /// Returns the place of the coding in tables with one place for each coding.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Brotli => 0,
            Self::Zstd => 1,
            Self::Gzip => 2,
        }
    }
}

impl fmt::Display for ContentCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coding_is_found_by_its_name_and_has_its_place() {
        for (index, coding) in ContentCoding::ALL.into_iter().enumerate() {
            assert_eq!(coding.index(), index);
            assert_eq!(ContentCoding::of_name(coding.name().as_bytes()), Some(coding));
            let upper = coding.to_string().to_ascii_uppercase();
            assert_eq!(ContentCoding::of_name(upper.as_bytes()), Some(coding));
        }
        assert_eq!(ContentCoding::of_name(b"X-GZIP"), Some(ContentCoding::Gzip));
        for other in ["", "b", "identity", "*", "deflate", "gzip "] {
            assert_eq!(ContentCoding::of_name(other.as_bytes()), None, "{other}");
        }
    }
}
