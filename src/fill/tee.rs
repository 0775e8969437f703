//! Receives a response body from the handler, and sends it to clients and stores it at the same
//! time.
//!
//! The leader is the request that called the handler. Followers are requests that share its
//! response. A task of the cache reads the handler's body into a shared list of chunks. The
//! leader's client and all followers read the list, each at its own pace. When the body has ended,
//! the task stores the whole body. A client that is slow or disconnects therefore delays no other
//! client.
//!
//! If no client reads the body any more, the task continues for at most
//! [`Policy::drain_limit`](crate::Policy::drain_limit), so that the response is still stored. The
//! task stops at once if the length of the body is unknown and no follower waits for its end.
//!
//! If a body of unknown length grows beyond
//! [`Policy::max_body_size`](crate::Policy::max_body_size), it is not stored. The leader's client
//! then reads the rest of the body directly from the handler, as without a cache.
//!
//! The memory for bodies is limited. If clients read slowly and the memory is short, the task reads
//! the handler's body only as fast as the leader's client does, and followers call the handler
//! themselves.

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
    rt::time::{Sleep, sleep},
};
use bytes::Bytes;
use tokio::task::yield_now;

use super::{
    candidate::Candidate,
    write::{StoreWork, Write},
};
use crate::{
    coordination::{
        flights::{FlightEnd, ResponseInProgress},
        shared_body::{BodyWriter, WriterState},
    },
    response::body::{BodyRemainder, BodyRest, CacheBody},
};

/// The number of bytes after which the task yields to the other tasks of its thread.
const YIELD_AFTER: usize = 128 * 1024;

/// The number of bytes that each chunk adds to the count for [`YIELD_AFTER`], in addition to its
/// content. Even a short chunk takes time.
const CHUNK_OVERHEAD: usize = 1024;

/// Makes the task that receives a body, and returns it with the body for the leader's client. If the
/// memory budget for bodies has too few bytes left, makes no task and returns the handler's body as
/// `Err`.
pub(crate) fn begin<B: MessageBody + 'static>(
    body: B,
    write: Write,
    declared: Option<u64>,
) -> Result<(CacheBody<B>, StoreWork), B> {
    let expected = declared.and_then(|length| usize::try_from(length).ok());
    let Some(writer) = write.candidate.shared.store.coordinator().begin_body(expected) else {
        return Err(body);
    };
    let Ok(reader) = writer.body().reader() else { return Err(body) };
    let rest = BodyRest::default();
    let client = CacheBody::led(reader, Rc::clone(&rest), body.size());
    let may_be_overdue = write.candidate.leader.is_some();
    let mut tee = Tee {
        body: Box::pin(body),
        writer,
        write,
        expected,
        rest,
        head: Head::Unpublished,
        unread_timer: None,
        may_be_overdue,
        progress_timer: None,
        progressed: false,
        paused: false,
    };
    if let Some(leader) = &mut tee.write.candidate.leader {
        leader.set_end_on_drop(FlightEnd::Abandoned);
    }
    Ok((client, StoreWork::Receive(Box::pin(tee.run()))))
}

struct Tee<B> {
    body: Pin<Box<B>>,
    writer: BodyWriter,
    write: Write,
    /// The declared length of the body; `None` if the length is unknown.
    expected: Option<usize>,
    rest: BodyRest<B>,
    head: Head,
    /// The timer that runs while no client reads the body. When the timer ends, the body is
    /// aborted.
    unread_timer: Option<Pin<Box<Sleep>>>,
    /// Whether followers may wait for the body.
    may_be_overdue: bool,
    /// The timer after which followers no longer wait for the body. If the length of the body is
    /// known and a chunk has arrived, the timer starts again. It starts first when the task waits for
    /// the handler.
    progress_timer: Option<Pin<Box<Sleep>>>,
    /// Whether a chunk of a body of known length has arrived since the progress timer was started.
    progressed: bool,
    /// Whether the task has ever waited for memory.
    paused: bool,
}

/// Whether followers have received the head of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// No follower has received the head, because the task has not yet waited for the handler.
    Unpublished,
    /// Followers have received the head, or do not wait for it any more.
    Settled,
}

/// The result of reading the handler's body once.
enum Next {
    Chunk(Bytes),
    End,
    Error(Box<dyn Error>),
}

enum Event {
    Body(Next),
    /// No client reads the body, and the task should not continue to read it.
    Unread,
    /// Followers have waited too long for the body.
    Overdue,
    /// The task waits for memory for the first time.
    Paused,
    /// The memory of the body was needed for other bodies.
    Revoked,
}

impl<B: MessageBody> Tee<B> {
    /// Sends the head of the response to followers if the length of the body is known. Followers
    /// then read the body while it arrives. They wait for the end of a body that arrives at once, as for
    /// one that the handler sends whole.
    fn publish_head(&mut self) {
        if mem::replace(&mut self.head, Head::Settled) == Head::Settled {
            return;
        }
        if let Some((leader, length)) = self.write.candidate.leader.as_ref().zip(self.expected) {
            leader.publish_head(ResponseInProgress {
                response: Arc::clone(&self.write.draft),
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
                        // The response is stored before its last chunk is sent. A client that has
                        // received the whole response therefore gets a hit with its next request.
                        // Servers end a response at its declared length, so the client has the
                        // whole response with the last chunk.
                        return self.finish(chunk, next).await;
                    }
                    let accepted = self.accepts(&chunk);
                    let has_room = self.writer.push(chunk);
                    if !has_room {
                        log::trace!("not stored: too many bytes of bodies are in progress");
                    }
                    if !accepted || !has_room {
                        return self.hand_back();
                    }
                }
                Event::Revoked => {
                    log::trace!("not stored: too many bytes of bodies are in progress");
                    return self.hand_back();
                }
                Event::Overdue => self.release_followers(),
                Event::Paused => {
                    self.head = Head::Settled;
                    self.writer.drop_unread_bodies();
                    if let Some(leader) = &self.write.candidate.leader {
                        leader.release_followers();
                    }
                }
                // A new reader may have arrived since the event. The task then continues.
                Event::Unread if !self.writer.abort_if_unread() => {}
                Event::Unread => {
                    log::trace!("not stored: no client waits for the end of the body");
                    return;
                }
                Event::Body(next) => return self.finish(Bytes::new(), next).await,
            }
            if bytes_since_yield >= YIELD_AFTER {
                bytes_since_yield = 0;
                self.publish_head();
                yield_now().await;
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let state = self.writer.poll_state(cx);
        match state {
            WriterState::Read | WriterState::Unread => {
                if let Poll::Ready(next) = self.poll_body(cx) {
                    return Poll::Ready(Event::Body(next));
                }
            }
            WriterState::Full if !mem::replace(&mut self.paused, true) => {
                return Poll::Ready(Event::Paused);
            }
            WriterState::Full => {}
            WriterState::UnreadAndFull => return Poll::Ready(Event::Unread),
            WriterState::Revoked => return Poll::Ready(Event::Revoked),
        }
        if self.poll_unread(state, cx).is_ready() {
            return Poll::Ready(Event::Unread);
        }
        self.publish_head();
        while self.may_be_overdue {
            let limit = self.write.policy().wait_limit();
            let timer = self.progress_timer.get_or_insert_with(|| Box::pin(sleep(limit)));
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            self.progress_timer = None;
            self.may_be_overdue = mem::take(&mut self.progressed);
            if !self.may_be_overdue {
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

    /// Returns `Ready` if no client reads the body and the task should not continue to read it.
    fn poll_unread(&mut self, state: WriterState, cx: &mut Context<'_>) -> Poll<()> {
        if state != WriterState::Unread {
            self.unread_timer = None;
            return Poll::Pending;
        }
        let has_followers =
            self.write.candidate.leader.as_ref().is_some_and(|leader| leader.has_followers());
        if self.expected.is_none() && !has_followers {
            return Poll::Ready(());
        }
        let limit = self.write.policy().drain_limit();
        let timer = self.unread_timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx)
    }

    /// Returns whether the body reaches its declared length with this chunk.
    fn is_last(&self, chunk: &Bytes) -> bool {
        self.expected == Some(self.writer.length() + chunk.len())
    }

    /// Returns whether the body can still be stored with this chunk. The result is false if the
    /// body with this chunk exceeds its declared length or the size limit.
    fn accepts(&mut self, chunk: &Bytes) -> bool {
        let length = self.writer.length() + chunk.len();
        if let Some(expected) = self.expected {
            self.progressed = true;
            return length <= expected;
        }
        if length > self.write.candidate.shared.max_body_size(self.write.candidate.rule) {
            log::trace!("not stored: the body exceeds max_body_size");
            let Candidate { shared, key, .. } = &*self.write.candidate;
            shared.store.coordinator().mark_too_large(key, shared.now());
            self.mark_hit_for_miss();
            return false;
        }
        true
    }

    /// Ends the wait of the followers. If the length of the body is unknown, the key is also marked
    /// as hit-for-miss, so that later requests do not wait for each other for some seconds.
    fn release_followers(&mut self) {
        if self.expected.is_none() {
            self.mark_hit_for_miss();
        }
        if let Some(leader) = &self.write.candidate.leader {
            leader.release_followers();
        }
    }

    fn mark_hit_for_miss(&mut self) {
        let Candidate { shared, key, leader, .. } = &mut *self.write.candidate;
        if let Some(leader) = leader {
            leader.mark_hit_for_miss(shared.store.coordinator(), key, shared.now());
        }
    }

    /// Gives the rest of the handler's body to the leader's client. The response is not stored.
    fn hand_back(mut self) {
        self.set_end_on_drop(FlightEnd::NotStored);
        self.rest.replace(Some(BodyRemainder::Body(self.body)));
    }

    /// Ends the task: stores the body if it is complete, or else reports its end to the clients.
    /// `last` is a chunk that is not yet in the list of chunks. `next` is the result of the last
    /// read.
    async fn finish(mut self, last: Bytes, next: Next) {
        let length = self.writer.length() + last.len();
        if matches!(next, Next::End) && self.expected.is_none_or(|expected| expected == length) {
            return self.store(last).await;
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
            // The body is longer than declared, so it is not stored. Servers cut it off at the
            // declared length.
            Next::Chunk(more) => {
                self.writer.push(more);
                self.hand_back();
            }
        }
    }

    async fn store(mut self, last: Bytes) {
        let Some(body) = self.writer.concat(&last) else {
            log::trace!("not stored: too many bytes of bodies are in progress");
            self.set_end_on_drop(FlightEnd::NotStored);
            return self.writer.finish(last);
        };
        let write = self.write.with_body(body);
        let stored = write.draft.body.clone();
        write.start();
        self.writer.finish_stored(last, stored);
    }

    fn set_end_on_drop(&mut self, end: FlightEnd) {
        if let Some(leader) = &mut self.write.candidate.leader {
            leader.set_end_on_drop(end);
        }
    }
}
