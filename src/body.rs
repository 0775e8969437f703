//! The body of what leaves the cache: the handler's, a stored one, or the handler's on its way
//! into the store.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    body::{BodySize, MessageBody},
    rt::time::timeout,
};
use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::fill::Recording;

/// How long a body that no client reads may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

pin_project! {
    /// The body of a response that went through a [`Cache`](crate::Cache).
    #[derive(Debug)]
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        /// The handler's, untouched.
        Pass { #[pin] body: B },
        /// All at once.
        Whole { bytes: Bytes },
        /// None at all, as 204 and 304 want it.
        None,
        /// The handler's, copied as it passes.
        Recorded { #[pin] tee: Tee<B> },
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

    pub(crate) fn recorded(body: B, recording: Recording) -> Self {
        // Boxed: most bodies are none of these, and all are moved about.
        let recording = Some(Box::new(recording));
        let tee = Tee { body, recording, ahead: Ahead::Unknown };
        Self { kind: Kind::Recorded { tee } }
    }
}

impl<B: MessageBody> CacheBody<B> {
    /// Reads on for the sake of what is recorded alone, for as long as something is and no longer
    /// than [`DRAIN_LIMIT`].
    pub(crate) async fn drain(self) {
        let mut body = pin!(self);
        let work = poll_fn(|cx| {
            while body.is_recording() {
                match ready!(body.as_mut().poll_next(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
            Poll::Ready(())
        });
        if timeout(DRAIN_LIMIT, work).await.is_err() {
            log::debug!("not stored: the body took too long");
        }
    }

    const fn is_recording(&self) -> bool {
        matches!(&self.kind, Kind::Recorded { tee } if tee.recording.is_some())
    }
}

impl<B: MessageBody> MessageBody for CacheBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        match &self.kind {
            Kind::Pass { body } => body.size(),
            Kind::Whole { bytes } => BodySize::Sized(bytes.len() as u64),
            Kind::None => BodySize::None,
            Kind::Recorded { tee } => tee.body.size(),
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Pass { body } => body.poll_next(cx),
            KindProjection::Whole { bytes } => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            KindProjection::None => Poll::Ready(None),
            KindProjection::Recorded { tee } => tee.poll_next(cx),
        }
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        match self.kind {
            Kind::Pass { body } => body.try_into_bytes().map_err(Self::pass),
            Kind::Whole { bytes } => Ok(bytes),
            Kind::None => Ok(Bytes::new()),
            kind @ Kind::Recorded { .. } => Err(Self { kind }),
        }
    }
}

pin_project! {
    /// Hands on each chunk as it comes, and a copy of it to the recording. It asks for no chunk
    /// that the client did not ask for, save one at the declared end.
    #[derive(Debug)]
    struct Tee<B> {
        #[pin]
        body: B,
        recording: Option<Box<Recording>>,
        ahead: Ahead,
    }
}

/// What the look beyond the declared end found.
#[derive(Debug)]
enum Ahead {
    Unknown,
    Chunk(Bytes),
    End,
}

impl<B: MessageBody> Tee<B> {
    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        let mut this = self.project();
        match std::mem::replace(this.ahead, Ahead::Unknown) {
            Ahead::Unknown => {}
            Ahead::Chunk(chunk) => return Poll::Ready(Some(Ok(chunk))),
            Ahead::End => {
                // A body is not to be polled after its end, however often we are.
                *this.ahead = Ahead::End;
                return Poll::Ready(None);
            }
        }
        let chunk = match ready!(this.body.as_mut().poll_next(cx)) {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => {
                *this.recording = None;
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                *this.ahead = Ahead::End;
                if let Some(recording) = this.recording.take() {
                    recording.finish(cx);
                }
                return Poll::Ready(None);
            }
        };
        if this.recording.as_mut().is_some_and(|recording| !recording.takes(&chunk)) {
            *this.recording = None;
        }
        if this.recording.as_ref().is_some_and(|recording| recording.is_at_declared_end()) {
            // The server stops at the declared length; and what is stored before the last chunk
            // leaves is there when the client asks again.
            match this.body.as_mut().poll_next(cx) {
                Poll::Ready(None) => {
                    *this.ahead = Ahead::End;
                    if let Some(recording) = this.recording.take() {
                        recording.finish(cx);
                    }
                }
                // It goes on beyond what it declared, or breaks: the client would learn the same.
                Poll::Ready(Some(Ok(more))) => {
                    *this.recording = None;
                    *this.ahead = Ahead::Chunk(more);
                }
                Poll::Ready(Some(Err(_))) => {
                    *this.recording = None;
                    *this.ahead = Ahead::End;
                }
                Poll::Pending => {}
            }
        }
        Poll::Ready(Some(Ok(chunk)))
    }
}
