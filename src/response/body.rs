//! Bodies of responses that leave the cache.

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

use crate::coordination::shared_body::{BodyReader, BodyStep};

pin_project! {
    /// The body of a response that passed a [`Cache`](crate::Cache).
    ///
    /// It is the handler's body, a stored body, or a body that is still being received and stored.
    /// Its error is that of the handler's body, or says that the body made for another request
    /// ended early.
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        /// The handler's body, untouched.
        Pass { #[pin] body: B },
        /// A complete body.
        Whole { bytes: Bytes },
        /// No body, as 204 and 304 require.
        None,
        /// The leader's view of the handler's body, which a task of the cache reads.
        Led { reader: BodyReader, rest: BodyRest<B>, size: BodySize },
        /// The part of the handler's body that the task of the cache has not read.
        Rest { body: Pin<Box<B>>, size: BodySize },
        /// A follower's view of a body that was made for another request.
        Followed { reader: BodyReader, length: u64 },
        /// A body that was read to its end. It is never polled again, however often this one is.
        Ended { size: BodySize },
    }
}

/// The place where the leader's client finds the rest of a body that is not stored.
pub(crate) type BodyRest<B> = Rc<RefCell<Option<BodyRemainder<B>>>>;

/// The rest of a body that is not stored.
pub(crate) enum BodyRemainder<B> {
    /// The body itself, to be read on.
    Body(Pin<Box<B>>),
    /// The error of the handler's body.
    Error(Box<dyn Error>),
    /// Nothing: the body ended before its declared length.
    Nothing,
}

/// The response with the handler's body, untouched.
pub(crate) fn pass_through<B>(response: ServiceResponse<B>) -> ServiceResponse<CacheBody<B>> {
    response.map_body(|_, body| CacheBody::pass(body))
}

impl<B> CacheBody<B> {
    pub(crate) const fn pass(body: B) -> Self {
        Self { kind: Kind::Pass { body } }
    }

    pub(crate) const fn whole(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole { bytes } }
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

    /// Reads the body on behalf of no client, only so that it is stored.
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

/// The body did not reach its end.
#[derive(Debug)]
pub(crate) struct DrainIncomplete;

impl<B: MessageBody> MessageBody for CacheBody<B> {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        match &self.kind {
            Kind::Pass { body } => body.size(),
            Kind::Whole { bytes } => BodySize::Sized(bytes.len() as u64),
            Kind::None => BodySize::None,
            Kind::Led { size, .. } | Kind::Rest { size, .. } | Kind::Ended { size } => *size,
            Kind::Followed { length, .. } => BodySize::Sized(*length),
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
                KindProjection::Whole { bytes } => {
                    let bytes = std::mem::take(bytes);
                    return Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)));
                }
                KindProjection::None | KindProjection::Ended { .. } => return Poll::Ready(None),
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
            Kind::Whole { bytes } => Ok(bytes),
            Kind::None => Ok(Bytes::new()),
            kind @ (Kind::Led { .. }
            | Kind::Rest { .. }
            | Kind::Followed { .. }
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
            Kind::Ended { .. } => "CacheBody::Ended",
        })
    }
}

/// The body that was made for another request ended early.
#[derive(Debug)]
struct IncompleteBody;

impl fmt::Display for IncompleteBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response body, made for another request, ended before it was complete")
    }
}

impl Error for IncompleteBody {}
