//! Receiving a body that is stored and sent to clients at once.
//!
//! A task of the cache reads the handler's body into a shared list of chunks. The leader's client
//! and all followers read from the list, each at its own pace; at the end the list is stored. A
//! slow client, or one that goes away, therefore delays no other client.
//!
//! A body of known length is read to its end even if no client is left, at most
//! [`Policy::max_body_size`](crate::Policy::max_body_size) bytes. A body of unknown length is read
//! while a client reads it or a follower waits for its end. If it grows beyond the size limit, the
//! leader's client gets the body itself and reads on as without a cache.

use std::{
    error::Error,
    future::{Future as _, poll_fn},
    mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    body::MessageBody,
    rt::{
        spawn,
        time::{Sleep, sleep},
    },
};
use bytes::Bytes;
use tokio::task::yield_now;

use super::write::Write;
use crate::{
    coordination::{
        flights::{FlightEnd, ResponseInProgress},
        shared_body::{BodyWriter, SharedBody},
    },
    poll_once::with_context,
    response::body::{BodyRemainder, BodyRest, CacheBody},
};

/// Bytes after which other tasks of the thread get their turn.
const YIELD_AFTER: usize = 128 * 1024;

/// Bytes that a chunk costs in addition to its content.
const CHUNK_OVERHEAD: usize = 1024;

/// Starts to receive a body. Returns the body as the leader's client reads it, or the handler's
/// body if too many bytes are in progress already.
pub(crate) fn begin<B: MessageBody + 'static>(
    body: B,
    write: Write,
    declared: Option<u64>,
) -> Result<CacheBody<B>, B> {
    // A declared length is reserved before the bytes arrive.
    let expected = declared.and_then(|length| usize::try_from(length).ok());
    let reservation = write.shared.store.coordinator().reserve_bytes(expected.unwrap_or(0));
    let Some(reservation) = reservation else { return Err(body) };
    let writer = SharedBody::begin(reservation);
    let Some(reader) = writer.body().reader() else { return Err(body) };
    let rest = BodyRest::default();
    let client = CacheBody::led(reader, Rc::clone(&rest), body.size());
    let progress_timer =
        write.leader.is_some().then(|| Box::pin(sleep(write.shared.policy.wait_limit())));
    let mut tee = Tee {
        body: Box::pin(body),
        writer,
        write,
        expected,
        rest,
        unread_timer: None,
        progress_timer,
        progressed: false,
    };
    tee.publish_head();
    spawn(tee.run());
    Ok(client)
}

struct Tee<B> {
    body: Pin<Box<B>>,
    writer: BodyWriter,
    write: Write,
    /// The declared length.
    expected: Option<usize>,
    rest: BodyRest<B>,
    /// Ends the fill of a body that no client reads.
    unread_timer: Option<Pin<Box<Sleep>>>,
    /// Releases the followers of a body that makes no progress.
    progress_timer: Option<Pin<Box<Sleep>>>,
    /// Whether a chunk arrived since the progress timer was started.
    progressed: bool,
}

/// The next step of the handler's body.
enum Next {
    Chunk(Bytes),
    End,
    Error(Box<dyn Error>),
}

enum Event {
    Body(Next),
    /// No client reads the body, and no follower waits for it.
    Unread,
    /// Followers have waited too long.
    Overdue,
}

impl<B: MessageBody> Tee<B> {
    /// Lets followers read along, if the length is known.
    fn publish_head(&mut self) {
        let Some(leader) = &mut self.write.leader else { return };
        leader.set_end_on_drop(FlightEnd::Abandoned);
        if let Some(length) = self.expected {
            leader.publish_head(ResponseInProgress {
                response: Arc::new(self.write.draft.clone()),
                length: length as u64,
                body: Arc::clone(self.writer.body()),
            });
        }
    }

    async fn run(mut self) {
        let mut bytes_since_yield = 0;
        loop {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Body(Next::Chunk(chunk)) => {
                    bytes_since_yield += chunk.len() + CHUNK_OVERHEAD;
                    if self.is_last(&chunk) {
                        let beyond = poll_fn(|cx| Poll::Ready(self.poll_body(cx))).await;
                        let Poll::Ready(next) = beyond else {
                            self.writer.push(chunk);
                            continue;
                        };
                        // The response is stored before its last chunk is sent, so that a client
                        // that has the whole response finds it stored. Servers do not poll a body
                        // for more than it declared.
                        return self.finish(chunk, next).await;
                    }
                    let accepted = self.accepts(&chunk);
                    self.writer.push(chunk);
                    if !accepted {
                        return self.hand_back();
                    }
                }
                Event::Overdue => self.release_followers(),
                // A reader may have arrived since the event.
                Event::Unread if !self.writer.abort_if_unread() => {}
                Event::Unread => {
                    log::trace!("not stored: no client waits for the end of the body");
                    return;
                }
                Event::Body(next) => return self.finish(Bytes::new(), next).await,
            }
            if bytes_since_yield >= YIELD_AFTER {
                bytes_since_yield = 0;
                yield_now().await;
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(next) = self.poll_body(cx) {
            return Poll::Ready(Event::Body(next));
        }
        if self.poll_unread(cx).is_ready() {
            return Poll::Ready(Event::Unread);
        }
        while let Some(timer) = &mut self.progress_timer {
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            let limit = self.write.shared.policy.wait_limit();
            self.progress_timer = mem::take(&mut self.progressed).then(|| Box::pin(sleep(limit)));
            if self.progress_timer.is_none() {
                return Poll::Ready(Event::Overdue);
            }
        }
        Poll::Pending
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.body.as_mut().poll_next(cx).map(|next| match next {
            Some(Ok(chunk)) => Next::Chunk(chunk),
            Some(Err(error)) => Next::Error(error.into()),
            None => Next::End,
        })
    }

    /// Ready once no client reads the body and it is not worth finishing.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.writer.poll_unread(cx).is_pending() {
            self.unread_timer = None;
            return Poll::Pending;
        }
        let has_followers = self.write.leader.as_ref().is_some_and(|leader| leader.has_followers());
        if self.expected.is_none() && !has_followers {
            return Poll::Ready(());
        }
        let limit = self.write.shared.policy.drain_limit();
        let timer = self.unread_timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx)
    }

    /// Whether a chunk reaches the declared end.
    fn is_last(&self, chunk: &Bytes) -> bool {
        self.expected == Some(self.writer.length() + chunk.len())
    }

    /// Whether a chunk is within the size that is stored.
    fn accepts(&mut self, chunk: &Bytes) -> bool {
        let length = self.writer.length() + chunk.len();
        if let Some(expected) = self.expected {
            self.progressed = true;
            return length <= expected;
        }
        if length > self.write.shared.policy.max_body_size() {
            log::trace!("not stored: the body exceeds max_body_size");
            self.mark_hit_for_miss();
            return false;
        }
        let reserved = self.writer.reserve(chunk.len());
        if !reserved {
            log::trace!("not stored: too many bytes of bodies are in progress");
        }
        reserved
    }

    /// Lets followers call the handler themselves. If the length of the body is unknown, later
    /// requests do not wait for this response either (hit-for-miss).
    fn release_followers(&mut self) {
        if self.expected.is_none() {
            self.mark_hit_for_miss();
        }
        if let Some(leader) = &self.write.leader {
            leader.release_followers();
        }
    }

    fn mark_hit_for_miss(&mut self) {
        let Write { shared, key, leader, .. } = &mut self.write;
        if let Some(leader) = leader {
            leader.mark_hit_for_miss(shared.store.coordinator(), key, shared.now());
        }
    }

    /// Gives the body back to the leader's client.
    fn hand_back(mut self) {
        self.set_end_on_drop(FlightEnd::NotStored);
        self.rest.replace(Some(BodyRemainder::Body(self.body)));
    }

    /// Handles the end of the body. `last` is a chunk that no client has seen yet.
    async fn finish(mut self, last: Bytes, next: Next) {
        let length = self.writer.length() + last.len();
        if matches!(next, Next::End) && self.expected.is_none_or(|expected| expected == length) {
            return self.store(&last).await;
        }
        self.writer.push(last);
        match next {
            Next::End => {
                log::trace!("not stored: the body ended before its declared length");
                self.set_end_on_drop(FlightEnd::Failed);
                self.rest.replace(Some(BodyRemainder::Nothing));
            }
            Next::Error(error) => {
                log::trace!("not stored: the body ended with an error");
                self.set_end_on_drop(FlightEnd::Failed);
                self.rest.replace(Some(BodyRemainder::Error(error)));
            }
            // The body is longer than declared. Servers cut it off at the declared length.
            Next::Chunk(more) => {
                self.writer.push(more);
                self.hand_back();
            }
        }
    }

    async fn store(self, last: &[u8]) {
        let body = self.writer.concat(last);
        let write = self.write.with_body(body.clone());
        with_context(|cx| write.start(cx)).await;
        self.writer.finish(body);
    }

    fn set_end_on_drop(&mut self, end: FlightEnd) {
        if let Some(leader) = &mut self.write.leader {
            leader.set_end_on_drop(end);
        }
    }
}
