//! Settings of a policy: responses in content codings.

use super::{super::compression::Compression, Policy};

impl Policy {
    /// Sends responses compressed, so that the application needs no middleware that compresses, such as
    /// actix's `Compress`.
    ///
    /// The cache stores the body of a response once, as the handler sent it. For the first client
    /// that accepts a content coding, it makes a copy in this coding on a thread of its own. Later
    /// clients get the copy, as fast as any other hit. Nothing waits for a copy, and the store counts
    /// copies toward its limit. The copies have entity tags and ranges of their own, so a client can
    /// resume the download of a copy.
    ///
    /// A response without a copy is compressed while it is sent, also if it is not stored: a miss, the
    /// response to a `POST`, or a response that the policy refuses. It has no `Content-Length` and no
    /// ranges, and a weak entity tag instead of a strong one. What the handler has sent leaves at once.
    /// Chunks of 1 KiB and more are compressed on other threads.
    ///
    /// All these responses have `Vary: Accept-Encoding`. The handler knows only the tags that it sends:
    /// in `If-Match` it finds its own tag behind that of a compressed response.
    ///
    /// Set [`no_compress_outside`](Self::no_compress_outside), too, unless `Compress` is registered
    /// outside of the cache. (`Compress` leaves responses of the cache that are compressed as they
    /// are.) Of nested caches, the innermost one that handles a request decides. A cache in the mode
    /// [`Off`](crate::Mode::Off) compresses nothing.
    ///
    /// Not coded are bodies of less than 1 KiB, media types with a compressed format
    /// ([`Compression`] has both settings), parts (206), and responses with `Content-Encoding`,
    /// `Vary: Accept-Encoding`, `Cache-Control: no-transform` or a digest of the content. Server-sent
    /// events are not coded, because an encoder for each of many clients would take much memory. An
    /// error that a middleware inside returns becomes a response only outside of the cache.
    ///
    /// A page that contains a secret, such as a token of a form, and also text that an attacker
    /// chooses, such as a search term, should not be compressed at all: the length of the compressed
    /// page can tell the attacker about the secret (BREACH). Use [`no_compression`] in a rule.
    ///
    /// Default: nothing is compressed. Needs a feature of the crate for each coding: `compress-brotli`,
    /// `compress-gzip` or `compress-zstd`.
    ///
    /// [`no_compression`]: Self::no_compression
    ///
    /// ```
    /// # use actix_web_cache::{Compression, Policy};
    /// let policy = Policy::new().compress(Compression::new()).no_compress_outside();
    /// ```
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Compresses nothing: ends the effect of [`compress`](Self::compress), for use in a rule. It also
    /// applies to the responses of the rule that are not stored.
    pub fn no_compression(mut self) -> Self {
        self.compression = None;
        self
    }
}
