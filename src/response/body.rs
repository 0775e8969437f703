//! The body of what leaves the cache: the handler's, a stored one, or one that is still on its way
//! into the store.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_web::{
    body::{BodySize, MessageBody},
    rt::time::timeout,
};
use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::{
    coordination::shared_body::{BodyReader, BodyStep},
    fill::tee::{BodyRemainder, BodyRest, DRAIN_LIMIT},
};

pin_project! {
    /// The body of a response that went through a [`Cache`](crate::Cache).
    ///
    /// Its error is the handler's body's, or says that a body which another request's handler made
    /// broke off.
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        /// The handler's, untouched.
        Pass { #[pin] body: B },
        /// All at once.
        Whole { bytes: Bytes },
        /// None at all, as 204 and 304 want it.
        None,
        /// The handler's, which we read.
        Led { reader: BodyReader, rest: BodyRest<B>, size: BodySize },
        /// What we did not read of it.
        BodyRest { body: Pin<Box<B>>, size: BodySize },
        /// Another request's handler's, which we read.
        Followed { reader: BodyReader, length: u64 },
        /// Read to its end: nothing is to be polled after that, however often we are.
        Ended { size: BodySize },
    }
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
}

impl<B> CacheBody<B> {
    /// Reads on in a client's place, for the sake of what is being stored alone.
    pub(crate) async fn drain(self) -> Result<(), DrainIncomplete> {
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
        timeout(DRAIN_LIMIT, end).await.unwrap_or(Err(DrainIncomplete))
    }
}

/// The body did not come to its end.
#[derive(Debug)]
pub(crate) struct DrainIncomplete;

impl<B: MessageBody> MessageBody for CacheBody<B> {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        match &self.kind {
            Kind::Pass { body } => body.size(),
            Kind::Whole { bytes } => BodySize::Sized(bytes.len() as u64),
            Kind::None => BodySize::None,
            Kind::Led { size, .. } | Kind::BodyRest { size, .. } | Kind::Ended { size } => *size,
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
                KindProjection::BodyRest { body, .. } => {
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
            let next = match (step, rest) {
                (BodyStep::Chunk(chunk), _) => return Poll::Ready(Some(Ok(chunk))),
                (BodyStep::Aborted, Some(BodyRemainder::Body(body))) => {
                    kind.set(Kind::BodyRest { body, size });
                    continue;
                }
                (BodyStep::Aborted, Some(BodyRemainder::Error(error))) => Some(Err(error)),
                (BodyStep::Aborted, None) => Some(Err(IncompleteBody.into())),
                (BodyStep::Complete, _) | (BodyStep::Aborted, Some(BodyRemainder::Nothing)) => None,
            };
            kind.set(Kind::Ended { size });
            return Poll::Ready(next);
        }
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        match self.kind {
            Kind::Pass { body } => body.try_into_bytes().map_err(Self::pass),
            Kind::Whole { bytes } => Ok(bytes),
            Kind::None => Ok(Bytes::new()),
            kind @ (Kind::Led { .. }
            | Kind::BodyRest { .. }
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
            Kind::Led { .. } | Kind::BodyRest { .. } => "CacheBody::Led",
            Kind::Followed { .. } => "CacheBody::Followed",
            Kind::Ended { .. } => "CacheBody::Ended",
        })
    }
}

/// A body that another request's handler made will not come to its end.
#[derive(Debug)]
struct IncompleteBody;

impl fmt::Display for IncompleteBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response broke off while it was being made")
    }
}

impl Error for IncompleteBody {}
