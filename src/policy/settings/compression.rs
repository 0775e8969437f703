//! Settings of a policy: copies of stored responses in content codings.

use super::{super::compression::Compression, Policy};

impl Policy {
    /// Sends stored responses compressed, without compressing each response again.
    ///
    /// The cache stores the body of a response once, as the handler sent it. For the first client
    /// that accepts a content coding, it makes a copy in this coding on a thread of its own, while
    /// the client gets the body as it is. Later clients get the copy, as fast as any other hit.
    /// Nothing waits for a copy. The store counts copies toward its limit.
    ///
    /// Such a response has `Vary: Accept-Encoding`. The copies have entity tags and ranges of their
    /// own, so a client can resume the download of a copy. The handler knows only the tags that it
    /// sends: in `If-Match` it finds its own tag behind that of a copy.
    ///
    /// A middleware that compresses, such as actix's `Compress`, stays outside of the cache, for
    /// responses that are not stored. It leaves coded copies as they are.
    ///
    /// Not coded are bodies of less than 1 KiB, media types with a compressed format
    /// ([`Compression`] has both settings), and responses with `Content-Encoding`,
    /// `Vary: Accept-Encoding`, `Cache-Control: no-transform` or a digest of the content.
    ///
    /// A page that contains a secret, such as a token of a form, and also text that an attacker
    /// chooses, such as a search term, should not be compressed at all: the length of the compressed
    /// page can tell the attacker about the secret (BREACH). Use [`no_compression`] in a rule.
    ///
    /// Default: no copies. Needs a feature of the crate for each coding: `compress-brotli`,
    /// `compress-gzip` or `compress-zstd`.
    ///
    /// [`no_compression`]: Self::no_compression
    ///
    /// ```
    /// # use actix_web_cache::{Compression, Policy};
    /// let policy = Policy::new().compress(Compression::new());
    /// ```
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Makes no copies in content codings: ends the effect of [`compress`](Self::compress), for use
    /// in a rule.
    pub fn no_compression(mut self) -> Self {
        self.compression = None;
        self
    }
}
