//! Compression of bodies while clients receive them, by the encoder of actix-http.
//!
//! The encoder compresses chunks of 1 KiB and more on threads for blocking work. If the body has no
//! chunk ready, the encoder sends all that the body has sent before.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use pin_project_lite::pin_project;

use super::stream_encoder::{StreamEncoder, encoder};
use crate::entry::content_coding::ContentCoding;

/// The largest number of bytes that are compressed at once. The encoder keeps the result in memory
/// until the client has received it.
const MAX_CHUNK: usize = 128 * 1024;

/// The number of bytes after which the encoder sends what it has, although the body has more chunks
/// ready. The encoder for `br` would otherwise keep several megabytes.
const FLUSH_AFTER: usize = 512 * 1024;

/// A body that is compressed while a client receives it.
pub(crate) struct CodedStream<B> {
    encoder: Pin<Box<StreamEncoder<Declared<B>>>>,
    state: State,
    /// The size before the first poll. An encoder that has ended states that of the body.
    size: BodySize,
    /// The first part of the coded body, if it was read before a client asks for it.
    first: Option<Part>,
}

/// A part of a coded body, or its end.
type Part = Option<Result<Bytes, Box<dyn Error>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The body has ended or failed. An encoder that is polled again after an error would end the coded
    /// body as if the body were complete.
    Ended,
}

impl<B: MessageBody<Error = Box<dyn Error>>> CodedStream<B> {
    /// Makes the stream. `length` is the declared length of the body.
    ///
    /// # Errors
    ///
    /// Returns the stream of the body as it is, if the encoder cannot code it.
    pub(crate) fn new(coding: ContentCoding, body: B, length: Option<u64>) -> Result<Self, Self> {
        let body = Declared::new(body, length);
        let stream = |encoder: Box<StreamEncoder<Declared<B>>>| {
            let encoder = Box::into_pin(encoder);
            Self { size: encoder.size(), encoder, state: State::Open, first: None }
        };
        encoder(coding, body).map(stream).map_err(stream)
    }

    /// Reads the first part of the coded body, which the next poll of the body then returns.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.first.is_none() {
            self.first = Some(ready!(self.poll_coded(cx)));
        }
        Poll::Ready(())
    }

    fn poll_coded(&mut self, cx: &mut Context<'_>) -> Poll<Part> {
        if self.state == State::Ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.encoder.as_mut().poll_next(cx));
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
        }
        Poll::Ready(next.map(|result| result.map_err(boxed)))
    }
}

impl<B> MessageBody for CodedStream<B>
where
    B: MessageBody<Error = Box<dyn Error>>,
{
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(first),
            None => self.poll_coded(cx),
        }
    }
}

impl<B> fmt::Debug for CodedStream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodedStream").finish_non_exhaustive()
    }
}

/// Boxes the error of the encoder. In a build without codings, it is boxed already.
fn boxed(error: impl Into<Box<dyn Error>>) -> Box<dyn Error> {
    error.into()
}

pin_project! {
    /// A body that fails if it ends before its declared length. A server notices this itself, but not
    /// if the body is coded. As in a server, the body is cut off at its declared length.
    struct Declared<B> {
        #[pin]
        body: B,
        // The rest of the last chunk.
        rest: Bytes,
        // The number of bytes that the body still has to send, if its length was declared.
        left: Option<u64>,
        // The number of bytes since the last pause.
        unflushed: usize,
    }
}

impl<B> Declared<B> {
    const fn new(body: B, left: Option<u64>) -> Self {
        Self { body, rest: Bytes::new(), left, unflushed: 0 }
    }
}

impl<B> MessageBody for Declared<B>
where
    B: MessageBody<Error = Box<dyn Error>>,
{
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut this = self.project();
        if *this.unflushed >= FLUSH_AFTER {
            // The encoder flushes if the body has no chunk ready.
            *this.unflushed = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while this.rest.is_empty() {
            if *this.left == Some(0) {
                return Poll::Ready(None);
            }
            *this.rest = match (ready!(this.body.as_mut().poll_next(cx)), *this.left) {
                (Some(Ok(chunk)), _) => chunk,
                (None, Some(_)) => return Poll::Ready(Some(Err(EndedEarly.into()))),
                (end @ (None | Some(Err(_))), _) => return Poll::Ready(end),
            };
            if let Some(left) = this.left {
                let length = usize::try_from(*left).unwrap_or(usize::MAX);
                this.rest.truncate(length);
                *left -= this.rest.len() as u64;
            }
        }
        let length = this.rest.len().min(MAX_CHUNK);
        *this.unflushed += length;
        Poll::Ready(Some(Ok(this.rest.split_to(length))))
    }
}

/// The error of a coded body that ended before its declared length.
#[derive(Debug)]
struct EndedEarly;

impl fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response body ended before its declared length")
    }
}

impl Error for EndedEarly {}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use actix_web::body::BodyStream;
    use futures_util::stream;

    use super::*;
    use crate::compression::is_available;

    type Chunks = Vec<Result<&'static str, &'static str>>;

    pin_project! {
        struct Boxed<B> {
            #[pin]
            body: B,
        }
    }

    impl<B: MessageBody> MessageBody for Boxed<B> {
        type Error = Box<dyn Error>;

        fn size(&self) -> BodySize {
            self.body.size()
        }

        fn poll_next(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Bytes, Self::Error>>> {
            self.project().body.poll_next(cx).map_err(Into::into)
        }
    }

    fn body(chunks: Chunks) -> impl MessageBody<Error = Box<dyn Error>> {
        let chunks = chunks.into_iter().map(|chunk| match chunk {
            Ok(text) => Ok(Bytes::from_static(text.as_bytes())),
            Err(text) => Err(std::io::Error::other(text)),
        });
        Boxed { body: BodyStream::new(stream::iter(chunks)) }
    }

    /// Reads a body to its end or its error, and returns its bytes and the result of the last read.
    async fn read<B>(body: Pin<&mut B>) -> (Vec<u8>, Option<Box<dyn Error>>)
    where
        B: MessageBody<Error = Box<dyn Error>>,
    {
        let (mut body, mut bytes) = (body, Vec::new());
        while let Some(next) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            match next {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) => return (bytes, Some(error)),
            }
        }
        (bytes, None)
    }

    #[actix_web::test]
    async fn body_is_compared_with_its_declared_length() {
        for (chunks, left, want, fails) in [
            (vec![Ok("ab"), Ok(""), Ok("c")], None, "abc", false),
            (vec![Ok("ab"), Ok("c")], Some(3), "abc", false),
            (vec![Ok("ab"), Ok("c")], Some(4), "abc", true),
            (vec![Ok("ab"), Ok("cdef"), Err("not read")], Some(3), "abc", false),
            (vec![], Some(1), "", true),
            (vec![Ok("ab"), Err("failed")], None, "ab", true),
            (vec![Ok("ab"), Err("failed")], Some(3), "ab", true),
        ] {
            let declared = Declared::new(body(chunks.clone()), left);
            let (bytes, failure) = read(Box::pin(declared).as_mut()).await;
            assert_eq!((&*bytes, failure.is_some()), (want.as_bytes(), fails), "{chunks:?}");
        }
    }

    #[actix_web::test]
    async fn long_chunk_is_compressed_in_parts() {
        let long = &*Box::leak("x".repeat(MAX_CHUNK + 1).into_boxed_str());
        let declared = Declared::new(body(vec![Ok(long)]), None);
        let mut declared = Box::pin(declared);
        for length in [MAX_CHUNK, 1] {
            let next = poll_fn(|cx| declared.as_mut().poll_next(cx)).await;
            assert_eq!(next.unwrap().unwrap().len(), length);
        }
    }

    /// The encoder reads no further than the client does.
    #[actix_web::test]
    async fn body_is_read_as_the_client_reads() {
        use std::{cell::Cell, rc::Rc};
        for coding in ContentCoding::ALL.into_iter().filter(|coding| is_available(*coding)) {
            let read = Rc::new(Cell::new(0));
            let count = Rc::clone(&read);
            let mut random = 1_u64;
            let chunks = stream::repeat_with(move || {
                count.set(count.get() + 1);
                // A linear congruential generator: its bits look random to an encoder.
                let byte = |_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 56) as u8
                };
                Ok::<_, std::io::Error>((0..MAX_CHUNK).map(byte).collect::<Bytes>())
            });
            let body = Boxed { body: BodyStream::new(chunks) };
            let mut coded = pin!(CodedStream::new(coding, body, None).unwrap());
            let mut received = 0;
            for _ in 0..3 {
                let chunk = poll_fn(|cx| coded.as_mut().poll_next(cx)).await;
                received += chunk.unwrap().unwrap().len();
                let most = (received + FLUSH_AFTER) / MAX_CHUNK + 1;
                assert!(read.get() <= most, "{coding}: {} chunks for {received}", read.get());
            }
        }
    }

    #[actix_web::test]
    async fn first_part_is_returned_by_the_next_poll() {
        for coding in ContentCoding::ALL.into_iter().filter(|coding| is_available(*coding)) {
            for chunks in [vec![], vec![Ok("ab"), Ok("cd")], vec![Ok("ab"), Err("failed")]] {
                let coded = || CodedStream::new(coding, body(chunks.clone()), None).unwrap();
                let (want, failure) = read(pin!(coded())).await;
                let mut early = coded();
                for _ in 0..2 {
                    poll_fn(|cx| early.poll_first(cx)).await;
                }
                let mut early = pin!(early);
                let (bytes, early_failure) = read(early.as_mut()).await;
                assert_eq!(bytes, want, "{coding} {chunks:?}");
                assert_eq!(early_failure.is_some(), failure.is_some(), "{coding} {chunks:?}");
                assert_eq!(early.size(), BodySize::Stream, "{coding}: also at the end");
            }
        }
    }

    /// The end of a coded body says that it is complete.
    #[actix_web::test]
    async fn coded_body_that_fails_has_no_end() {
        for coding in ContentCoding::ALL.into_iter().filter(|coding| is_available(*coding)) {
            for (chunks, length) in
                [(vec![Ok("ab"), Err("failed")], None), (vec![Ok("ab")], Some(3))]
            {
                let complete = CodedStream::new(coding, body(vec![Ok("ab")]), Some(2));
                let (whole, failure) = read(pin!(complete.unwrap())).await;
                assert!(failure.is_none(), "{coding}");
                let mut failing = pin!(CodedStream::new(coding, body(chunks), length).unwrap());
                assert_eq!(failing.size(), BodySize::Stream);
                let (part, failure) = read(failing.as_mut()).await;
                assert!(failure.is_some() && part.len() < whole.len(), "{coding}");
                let (rest, failure) = read(failing).await;
                assert!(rest.is_empty() && failure.is_none(), "{coding}: more after the error");
            }
        }
    }
}
