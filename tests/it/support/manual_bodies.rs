//! Response bodies whose chunks the test sends one by one.

use std::{io, task::Poll};

use actix_web::{HttpResponse, body::SizedStream};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

/// The sender of a response body. Dropping it completes the body.
pub(crate) struct BodySender(mpsc::Sender<Part>);

/// A part of a body.
enum Part {
    Chunk(Bytes),
    /// The last chunk. The body is complete with it.
    Last(Bytes),
    Error(io::Error),
}

/// Makes response bodies for a handler, and sends the [`BodySender`] of each to the test.
#[derive(Clone)]
pub(crate) struct ManualBodies(mpsc::UnboundedSender<BodySender>);

/// Returns the source of bodies for the handler, and the receiver of their senders for the test.
pub(crate) fn manual_bodies() -> (ManualBodies, mpsc::UnboundedReceiver<BodySender>) {
    let (send, receive) = mpsc::unbounded_channel();
    (ManualBodies(send), receive)
}

impl ManualBodies {
    /// A response whose body the test sends. The response declares `length`, or no length.
    pub(crate) fn response(&self, length: Option<u64>) -> HttpResponse {
        let (send, mut receive) = mpsc::channel(1);
        self.0.send(BodySender(send)).unwrap();
        let mut has_ended = false;
        let chunks = stream::poll_fn(move |cx| {
            if has_ended {
                return Poll::Ready(None);
            }
            receive.poll_recv(cx).map(|part| {
                Some(match part? {
                    Part::Chunk(chunk) => Ok(chunk),
                    Part::Last(chunk) => {
                        has_ended = true;
                        Ok(chunk)
                    }
                    Part::Error(error) => Err(error),
                })
            })
        });
        match length {
            Some(length) => HttpResponse::Ok().body(SizedStream::new(length, chunks)),
            None => HttpResponse::Ok().streaming(chunks),
        }
    }
}

impl BodySender {
    /// Sends a chunk. Returns false if the server dropped the body.
    pub(crate) async fn send(&self, chunk: impl Into<Bytes>) -> bool {
        self.0.send(Part::Chunk(chunk.into())).await.is_ok()
    }

    /// Sends the last chunk, and completes the body with it: a server that has the chunk finds the end
    /// at its next poll. After [`send`](Self::send) the end arrives only when the test drops the sender.
    /// Returns false if the server dropped the body.
    pub(crate) async fn finish(self, chunk: impl Into<Bytes>) -> bool {
        self.0.send(Part::Last(chunk.into())).await.is_ok()
    }

    /// Ends the body with an error.
    pub(crate) async fn fail(self) {
        let _ = self.0.send(Part::Error(io::Error::other("injected fault"))).await;
    }

    /// Waits until the server has dropped the body.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}
