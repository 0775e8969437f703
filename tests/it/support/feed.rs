//! Response bodies whose chunks the test sends one by one.

use std::{io, task::Poll};

use actix_web::{HttpResponse, body::SizedStream};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

/// The sender of a response body. Dropping it completes the body.
pub(crate) struct Feed(mpsc::Sender<Part>);

/// A part of a body.
enum Part {
    Chunk(Bytes),
    /// A chunk that is immediately followed by the end of the body.
    Last(Bytes),
    Error(io::Error),
}

/// Sends the feed of each response from the handler to the test.
#[derive(Clone)]
pub(crate) struct Feeds(mpsc::UnboundedSender<Feed>);

/// Returns the sender for the handler and the receiver for the test.
pub(crate) fn feeds() -> (Feeds, mpsc::UnboundedReceiver<Feed>) {
    let (send, receive) = mpsc::unbounded_channel();
    (Feeds(send), receive)
}

impl Feeds {
    /// A response whose body the test sends. It declares the length, or none.
    pub(crate) fn response(&self, length: Option<u64>) -> HttpResponse {
        let (send, mut receive) = mpsc::channel(1);
        self.0.send(Feed(send)).unwrap();
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

impl Feed {
    /// Sends a chunk. Returns false if the server dropped the body.
    pub(crate) async fn send(&self, chunk: impl Into<Bytes>) -> bool {
        self.0.send(Part::Chunk(chunk.into())).await.is_ok()
    }

    /// Sends the last chunk and ends the body with it. Returns false if the server dropped the body.
    ///
    /// A server that has the chunk finds the end at its next poll. After [`send`](Self::send) the end comes
    /// only when the thread of the test drops the feed.
    pub(crate) async fn finish(self, chunk: impl Into<Bytes>) -> bool {
        self.0.send(Part::Last(chunk.into())).await.is_ok()
    }

    /// Ends the body with an error.
    pub(crate) async fn fail(self) {
        let _ = self.0.send(Part::Error(io::Error::other("the test ends the body"))).await;
    }

    /// Waits until the server has dropped the body.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}
