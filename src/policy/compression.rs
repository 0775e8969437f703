//! `Compression`: the settings of responses in content codings.

use super::error::ConfigError;
use crate::{
    compression::{is_available, level::CompressionLevel},
    entry::content_coding::ContentCoding,
    semantics::coded_copies::MediaTypes,
};

/// The least size of a body that is coded by default. A smaller response usually fits into one packet,
/// so that it would not arrive earlier.
const MIN_SIZE: usize = 1024;

/// The media types that are coded by default: those that browsers receive often and whose formats
/// are not compressed. Those of images, videos, archives and `font/woff2` are.
const TYPES: [&str; 15] = [
    "text/*",
    "*+json",
    "*+xml",
    "*+text",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "application/x-ndjson",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "font/collection",
    "image/bmp",
    "image/x-icon",
];

/// How the cache sends responses in content codings ([`Policy::compress`](crate::Policy::compress)).
///
/// ```
/// use actix_web_cache::{Compression, CompressionLevel, Policy};
///
/// let files = Compression::new().level(CompressionLevel::Smallest).types(["text/*", "*+xml"]);
/// Policy::new().compress(files);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Compression {
    codings: Option<Vec<ContentCoding>>,
    level: CompressionLevel,
    min_size: usize,
    types: Vec<String>,
}

impl Compression {
    /// Makes the default settings.
    pub fn new() -> Self {
        Self {
            codings: None,
            level: CompressionLevel::default(),
            min_size: MIN_SIZE,
            types: TYPES.map(str::to_owned).to_vec(),
        }
    }

    /// Sets the codings, the one first that the server prefers among those that a client accepts
    /// with equal weights. Default: all codings whose features are enabled, in the order `br`,
    /// `zstd`, `gzip`.
    ///
    /// # Errors
    ///
    /// [`CacheBuilder::build`](crate::CacheBuilder::build) refuses an empty list, and a coding whose
    /// feature is not enabled.
    pub fn codings(mut self, codings: impl IntoIterator<Item = ContentCoding>) -> Self {
        self.codings = Some(codings.into_iter().collect());
        self
    }

    /// Sets how much processor time a copy of a stored response takes. Default:
    /// [`CompressionLevel::Balanced`]. A response without a copy is compressed each time it is sent,
    /// so it always has a fast level (`gzip` 1, `br` 3, `zstd` 3).
    pub const fn level(mut self, level: CompressionLevel) -> Self {
        self.level = level;
        self
    }

    /// Sets the size in bytes of the smallest body that is coded. Default: 1024. A body of unknown
    /// length is coded while it is sent, whatever its size.
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Sets the media types of the responses that are coded, in place of the default ones: a type
    /// (`application/json`), all types with a beginning (`text/*`), or all types with a suffix
    /// (`*+json`). A response without `Content-Type` is not coded.
    ///
    /// Default: `text/*`, `*+json`, `*+xml`, `*+text`, the types of JSON, JavaScript, XML and
    /// WebAssembly, and of images and fonts whose formats are not compressed.
    ///
    /// # Errors
    ///
    /// [`CacheBuilder::build`](crate::CacheBuilder::build) refuses an empty list, and other texts.
    pub fn types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn compile(&self) -> Result<CompiledCompression, ConfigError> {
        let all =
            || ContentCoding::ALL.into_iter().filter(|coding| is_available(*coding)).collect();
        let codings: Vec<_> = self.codings.clone().unwrap_or_else(all);
        if let Some(missing) = codings.iter().find(|coding| !is_available(**coding)) {
            return Err(ConfigError::CodingNotEnabled(missing.name()));
        }
        if codings.is_empty() {
            return Err(match self.codings {
                Some(_) => ConfigError::EmptyList { setting: "Compression::codings" },
                None => ConfigError::NoCodingEnabled,
            });
        }
        if self.types.is_empty() {
            return Err(ConfigError::EmptyList { setting: "Compression::types" });
        }
        let types = MediaTypes::parse(&self.types);
        let types = types.map_err(|text| ConfigError::InvalidMediaType(text.to_owned()))?;
        Ok(CompiledCompression { codings, level: self.level, min_size: self.min_size, types })
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::new()
    }
}

/// The checked settings of a policy for content codings.
#[derive(Debug, Clone)]
pub(crate) struct CompiledCompression {
    /// The codings, the one first that the server prefers.
    pub(crate) codings: Vec<ContentCoding>,
    pub(crate) level: CompressionLevel,
    pub(crate) min_size: usize,
    pub(super) types: MediaTypes,
}

#[cfg(test)]
impl CompiledCompression {
    /// Makes settings with all codings, whatever features are enabled.
    pub(crate) fn with_all_codings() -> Self {
        let level = CompressionLevel::default();
        Self {
            codings: ContentCoding::ALL.to_vec(),
            level,
            min_size: 0,
            types: MediaTypes::default(),
        }
    }
}
