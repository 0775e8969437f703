//! The bodies of the responses that the cache returns.
//!
//! The leader is the request for which the cache calls the handler. A follower is a request that
//! waits for the response to the leader (request collapsing). If the response may be stored, a task
//! of the cache reads the handler's body, and the clients of the leader and of its followers read
//! from that task.

use std::{
    cell::RefCell,
    error::Error,
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    body::{BodySize, MessageBody},
    dev::ServiceResponse,
    rt::time::timeout,
};
use bytes::Bytes;
use pin_project_lite::pin_project;

use super::slices::Slices;
use crate::{
    compression::stream::CodedStream,
    coordination::shared_body::{BodyReader, BodyStep},
    entry::content_coding::ContentCoding,
};

pin_project! {
    /// The body of a response that a [`Cache`](crate::Cache) returns.
    ///
    /// The body is the handler's body, a stored body, or a body that the cache is still receiving in
    /// order to store it. The cache may compress it while the client receives it. Reading a
    /// `CacheBody` fails if the handler's body fails. Reading also fails if the handler was called
    /// for another request and its body ends early.
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        /// The handler's body, unchanged.
        Pass { #[pin] body: B },
        /// A complete body in memory, or the part of it that is not yet read.
        Whole { slices: Slices },
        /// No body, because a 204 or 304 response has none.
        None,
        /// The handler's body for the leader's client. A task of the cache receives the body, and
        /// the client reads the received bytes by `reader`.
        Led { reader: BodyReader, rest: BodyRest<B>, size: BodySize },
        /// The rest of the handler's body, after the task of the cache has stopped reading that
        /// body. The leader's client reads this rest from the handler's body itself.
        Rest { body: Pin<Box<B>>, size: BodySize },
        /// The body of the leader's response, which a follower's client reads while a task of the
        /// cache receives the body.
        Followed { reader: BodyReader, length: u64 },
        /// One of the other bodies, which is coded while the client receives it.
        Coded { stream: CodedStream<CacheBody<B>>, source: Source },
        /// The end of a `Led` or `Followed` body, or the body of a response to HEAD. A further poll
        /// returns `None`, and does not poll the reader again.
        Ended { size: BodySize },
    }
}

/// The body from which a coded body is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A complete body in memory.
    Whole,
    /// A body whose parts may arrive late.
    Stream,
}

/// Whether the first part of a body is there, before a server polls the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstPart {
    /// The first part is there, or the server itself reads the handler's body.
    Ready,
    /// The first part will soon be there: the body is complete, and its beginning has to be coded.
    Certain,
    /// The first part comes when the handler sends it.
    Uncertain,
}

/// The slot through which the task of the cache passes the rest of a body to the leader's client,
/// if the body is not stored.
pub(crate) type BodyRest<B> = Rc<RefCell<Option<BodyRemainder<B>>>>;

/// The rest of a body that the cache began to receive but does not store.
pub(crate) enum BodyRemainder<B> {
    /// The handler's body, from which the client reads the rest.
    Body(Pin<Box<B>>),
    /// The error with which the handler's body failed.
    Error(Box<dyn Error>),
    /// No rest, because the handler's body ended before its declared length.
    Nothing,
}

/// Returns the handler's response with its body unchanged.
pub(crate) fn pass_through<B>(response: ServiceResponse<B>) -> ServiceResponse<CacheBody<B>> {
    response.map_body(|_, body| CacheBody::pass(body))
}

impl<B> CacheBody<B> {
    pub(crate) const fn pass(body: B) -> Self {
        Self { kind: Kind::Pass { body } }
    }

    pub(crate) const fn whole(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole { slices: Slices::new(bytes) } }
    }

    /// Makes a complete body of several parts, without copying them.
    pub(crate) fn parts(parts: Vec<Bytes>) -> Self {
        Self { kind: Kind::Whole { slices: Slices::of_parts(parts) } }
    }

    pub(crate) const fn none() -> Self {
        Self { kind: Kind::None }
    }

    pub(crate) const fn led(reader: BodyReader, rest: BodyRest<B>, size: BodySize) -> Self {
        Self { kind: Kind::Led { reader, rest, size } }
    }

    pub(crate) const fn followed(reader: BodyReader, length: u64) -> Self {
        Self { kind: Kind::Followed { reader, length } }
    }

    /// Returns the body for a response to HEAD whose length is unknown.
    pub(crate) const fn omitted() -> Self {
        Self { kind: Kind::Ended { size: BodySize::Stream } }
    }

    /// Codes the body while the client receives it. `length` is the declared length of the body.
    ///
    /// # Errors
    ///
    /// Returns a body that is not coded, if the coding is not available.
    pub(crate) fn coded(self, coding: ContentCoding, length: Option<u64>) -> Result<Self, Self>
    where
        B: MessageBody,
    {
        match self.kind {
            // The body of a response to HEAD, whose handler got a GET request.
            Kind::Ended { .. } => Ok(Self::omitted()),
            kind => {
                let kind = match kind {
                    Kind::Pass { body } => match body.try_into_bytes() {
                        Ok(bytes) => Kind::Whole { slices: Slices::new(bytes) },
                        Err(body) => Kind::Pass { body },
                    },
                    kind => kind,
                };
                let is_whole = matches!(kind, Kind::Whole { .. });
                let source = if is_whole { Source::Whole } else { Source::Stream };
                let body = |stream| Self { kind: Kind::Coded { stream, source } };
                CodedStream::new(coding, Self { kind }, length).map(body).map_err(body)
            }
        }
    }

    /// Returns whether a server that polls the body finds its first part.
    pub(crate) fn first_part(&self) -> FirstPart {
        match &self.kind {
            Kind::Coded { source: Source::Whole, .. } => FirstPart::Certain,
            Kind::Coded { source: Source::Stream, .. } => FirstPart::Uncertain,
            Kind::Led { reader, .. } | Kind::Followed { reader, .. } if !reader.is_ready() => {
                FirstPart::Uncertain
            }
            Kind::Pass { .. }
            | Kind::Whole { .. }
            | Kind::None
            | Kind::Led { .. }
            | Kind::Rest { .. }
            | Kind::Followed { .. }
            | Kind::Ended { .. } => FirstPart::Ready,
        }
    }

    /// Waits for the first part of a body, which the next poll of the body then returns.
    pub(crate) fn poll_first_part(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        B: MessageBody,
    {
        match &mut self.kind {
            Kind::Coded { stream, .. } => stream.poll_first(cx),
            Kind::Led { reader, .. } | Kind::Followed { reader, .. } => reader.poll_ready(cx),
            Kind::Pass { .. }
            | Kind::Whole { .. }
            | Kind::None
            | Kind::Rest { .. }
            | Kind::Ended { .. } => Poll::Ready(()),
        }
    }

    /// Returns the body for a response to HEAD, which states the size of this body and has no bytes.
    pub(crate) fn for_head(&self) -> Self
    where
        B: MessageBody,
    {
        match self.size() {
            BodySize::None => Self::none(),
            size @ (BodySize::Sized(_) | BodySize::Stream) => Self { kind: Kind::Ended { size } },
        }
    }

    /// Returns whether the cache is still receiving this body in order to store it.
    pub(crate) const fn is_in_progress(&self) -> bool {
        matches!(self.kind, Kind::Led { .. })
    }

    /// Reads the body to its end, so that the cache stores it although no client reads it. Returns
    /// an error if the body does not reach its end within `limit`.
    pub(crate) async fn drain(self, limit: Duration) -> Result<(), DrainIncomplete> {
        let (Kind::Led { mut reader, .. } | Kind::Followed { mut reader, .. }) = self.kind else {
            return Ok(());
        };
        let end = poll_fn(|cx| {
            loop {
                match ready!(reader.poll_next(cx)) {
                    BodyStep::Chunk(_) => {}
                    BodyStep::Complete => return Poll::Ready(Ok(())),
                    BodyStep::Aborted => return Poll::Ready(Err(DrainIncomplete)),
                }
            }
        });
        timeout(limit, end).await.unwrap_or(Err(DrainIncomplete))
    }
}

/// The error of [`CacheBody::drain`]: the body did not reach its end in time.
#[derive(Debug)]
pub(crate) struct DrainIncomplete;

impl<B: MessageBody> MessageBody for CacheBody<B> {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        match &self.kind {
            Kind::Pass { body } => body.size(),
            Kind::Whole { slices } => BodySize::Sized(slices.len() as u64),
            Kind::None => BodySize::None,
            Kind::Led { size, .. } | Kind::Rest { size, .. } | Kind::Ended { size } => *size,
            Kind::Followed { length, .. } => BodySize::Sized(*length),
            Kind::Coded { stream, .. } => stream.size(),
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut kind = self.project().kind;
        loop {
            let (step, rest, size) = match kind.as_mut().project() {
                KindProjection::Pass { body } => return body.poll_next(cx).map_err(Into::into),
                KindProjection::Whole { slices } => return Poll::Ready(slices.next().map(Ok)),
                KindProjection::None | KindProjection::Ended { .. } => return Poll::Ready(None),
                KindProjection::Coded { stream, .. } => return Pin::new(stream).poll_next(cx),
                KindProjection::Rest { body, .. } => {
                    return body.as_mut().poll_next(cx).map_err(Into::into);
                }
                KindProjection::Led { reader, rest, size } => {
                    let step = ready!(reader.poll_next(cx));
                    let rest = if step == BodyStep::Aborted { rest.take() } else { None };
                    (step, rest, *size)
                }
                KindProjection::Followed { reader, length } => {
                    (ready!(reader.poll_next(cx)), None, BodySize::Sized(*length))
                }
            };
            let last = match (step, rest) {
                (BodyStep::Chunk(chunk), _) => return Poll::Ready(Some(Ok(chunk))),
                (BodyStep::Aborted, Some(BodyRemainder::Body(body))) => {
                    kind.set(Kind::Rest { body, size });
                    continue;
                }
                (BodyStep::Aborted, Some(BodyRemainder::Error(error))) => Some(Err(error)),
                (BodyStep::Aborted, None) => Some(Err(IncompleteBody.into())),
                (BodyStep::Complete, _) | (BodyStep::Aborted, Some(BodyRemainder::Nothing)) => None,
            };
            kind.set(Kind::Ended { size });
            return Poll::Ready(last);
        }
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        match self.kind {
            Kind::Pass { body } => body.try_into_bytes().map_err(Self::pass),
            // A long body stays in slices, also if a middleware puts it into a `BoxBody`.
            Kind::Whole { slices } => {
                slices.into_short_rest().map_err(|slices| Self { kind: Kind::Whole { slices } })
            }
            Kind::None => Ok(Bytes::new()),
            kind @ (Kind::Led { .. }
            | Kind::Rest { .. }
            | Kind::Followed { .. }
            | Kind::Coded { .. }
            | Kind::Ended { .. }) => Err(Self { kind }),
        }
    }
}

impl<B> fmt::Debug for CacheBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Pass { .. } => "CacheBody::Pass",
            Kind::Whole { .. } => "CacheBody::Whole",
            Kind::None => "CacheBody::None",
            Kind::Led { .. } | Kind::Rest { .. } => "CacheBody::Led",
            Kind::Followed { .. } => "CacheBody::Followed",
            Kind::Coded { .. } => "CacheBody::Coded",
            Kind::Ended { .. } => "CacheBody::Ended",
        })
    }
}

/// The error of a body that ended early, if the handler was called for another request.
#[derive(Debug)]
struct IncompleteBody;

impl fmt::Display for IncompleteBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response body, made for another request, ended before it was complete")
    }
}

impl Error for IncompleteBody {}
