//! The encoder for streams: that of actix-http if the feature of a coding is enabled.

#[cfg(any(feature = "compress-brotli", feature = "compress-gzip", feature = "compress-zstd"))]
pub(super) use self::actix::{StreamEncoder, encoder};

#[cfg(not(any(
    feature = "compress-brotli",
    feature = "compress-gzip",
    feature = "compress-zstd"
)))]
pub(super) use self::absent::{StreamEncoder, encoder};

#[cfg(any(feature = "compress-brotli", feature = "compress-gzip", feature = "compress-zstd"))]
mod actix {
    use actix_http::encoding::Encoder;
    use actix_web::{
        body::MessageBody,
        dev::ResponseHead,
        http::{
            StatusCode,
            header::{CONTENT_ENCODING, ContentEncoding},
        },
    };

    use crate::entry::content_coding::ContentCoding;

    pub(in super::super) type StreamEncoder<B> = Encoder<B>;

    /// Makes the encoder of a body. Returns `Err` if it leaves the body as it is.
    pub(in super::super) fn encoder<B: MessageBody>(
        coding: ContentCoding,
        body: B,
    ) -> Result<Box<StreamEncoder<B>>, Box<StreamEncoder<B>>> {
        let coding = match coding {
            ContentCoding::Brotli => ContentEncoding::Brotli,
            ContentCoding::Zstd => ContentEncoding::Zstd,
            ContentCoding::Gzip => ContentEncoding::Gzip,
        };
        // The encoder writes its fields into this head. The cache writes those of the response.
        let mut head = ResponseHead::new(StatusCode::OK);
        let encoder = Box::new(Encoder::response(coding, &mut head, body));
        if head.headers().contains_key(CONTENT_ENCODING) { Ok(encoder) } else { Err(encoder) }
    }
}

#[cfg(not(any(
    feature = "compress-brotli",
    feature = "compress-gzip",
    feature = "compress-zstd"
)))]
mod absent {
    use crate::entry::content_coding::ContentCoding;

    pub(in super::super) type StreamEncoder<B> = B;

    /// Leaves the body as it is. No policy of such a build has a coding.
    pub(in super::super) fn encoder<B>(
        _: ContentCoding,
        body: B,
    ) -> Result<Box<StreamEncoder<B>>, Box<StreamEncoder<B>>> {
        Err(Box::new(body))
    }
}
