//! `Compression` in a file.

use serde::{Deserialize, Deserializer};

use super::values::Texts;
use crate::{
    compression::level::CompressionLevel, entry::content_coding::ContentCoding,
    policy::compression::Compression,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "compress")]
struct Fields {
    codings: Option<Vec<Coding>>,
    level: Option<Level>,
    min_size: Option<usize>,
    types: Option<Texts>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Coding {
    #[serde(rename = "br")]
    Brotli,
    #[serde(rename = "zstd")]
    Zstd,
    #[serde(rename = "gzip")]
    Gzip,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Fast,
    Balanced,
    Smallest,
}

/// The keys have the names of the setters. All keys are optional.
impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { codings, level, min_size, types } = Fields::deserialize(deserializer)?;
        let mut compression = Self::new();
        if let Some(codings) = codings {
            compression = compression.codings(codings.into_iter().map(|coding| match coding {
                Coding::Brotli => ContentCoding::Brotli,
                Coding::Zstd => ContentCoding::Zstd,
                Coding::Gzip => ContentCoding::Gzip,
            }));
        }
        if let Some(level) = level {
            compression = compression.level(match level {
                Level::Fast => CompressionLevel::Fast,
                Level::Balanced => CompressionLevel::Balanced,
                Level::Smallest => CompressionLevel::Smallest,
            });
        }
        if let Some(size) = min_size {
            compression = compression.min_size(size);
        }
        Ok(match types {
            Some(types) => compression.types(types.0),
            None => compression,
        })
    }
}
