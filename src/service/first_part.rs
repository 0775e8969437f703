//! Responses whose heads wait for the first part of the body.
//!
//! A server that finds no part of a body sends the head alone. Without `TCP_NODELAY`, the kernel then
//! holds a short body back until the client acknowledges the head, which takes about 40 ms. So the
//! head waits for a moment.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::MessageBody,
    dev::ServiceResponse,
    rt::time::{Sleep, sleep},
};

use crate::response::body::{CacheBody, FirstPart};

/// The longest time for which a head waits for a part that a handler has still to send. To read a
/// file takes less time, and clients hardly notice that a head is late by this time.
const LIMIT: Duration = Duration::from_millis(5);

/// A response that waits for the first part of its body.
pub(super) struct WaitingResponse<B> {
    request: HttpRequest,
    head: HttpResponse<()>,
    body: CacheBody<B>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: MessageBody> WaitingResponse<B> {
    /// Returns whether a response has something to wait for.
    #[inline]
    pub(super) fn is_needed(response: &ServiceResponse<CacheBody<B>>) -> bool {
        response.response().body().first_part() != FirstPart::Ready
    }

    pub(super) fn new(response: ServiceResponse<CacheBody<B>>) -> Self {
        let (request, response) = response.into_parts();
        let (head, body) = response.into_parts();
        Self { request, head, body, timer: None }
    }

    /// Waits until the head of the response should leave.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body.poll_first_part(cx).is_ready() {
            return Poll::Ready(());
        }
        match self.body.first_part() {
            FirstPart::Ready => Poll::Ready(()),
            FirstPart::Certain => Poll::Pending,
            FirstPart::Uncertain => {
                self.timer.get_or_insert_with(|| Box::pin(sleep(LIMIT))).as_mut().poll(cx)
            }
        }
    }

    /// Returns the response, after the wait.
    pub(super) fn into_response(self) -> ServiceResponse<CacheBody<B>> {
        ServiceResponse::new(self.request, self.head.set_body(self.body))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Waker, time::Duration};

    use actix_web::{http::StatusCode, test::TestRequest};
    use bytes::Bytes;
    use tokio::time::timeout;

    use super::*;
    use crate::coordination::{coordinator::Coordinator, shared_body::BodyWriter};

    fn response(body: CacheBody<()>) -> ServiceResponse<CacheBody<()>> {
        let request = TestRequest::default().to_http_request();
        ServiceResponse::new(request, HttpResponse::with_body(StatusCode::OK, body))
    }

    fn body_in_progress() -> (BodyWriter, CacheBody<()>) {
        let writer = Coordinator::default().begin_body(Some(3)).unwrap();
        let reader = writer.body().reader().unwrap();
        (writer, CacheBody::followed(reader, 3))
    }

    fn is_needed(body: CacheBody<()>) -> bool {
        WaitingResponse::is_needed(&response(body))
    }

    #[test]
    fn only_a_body_whose_next_part_is_missing_lets_its_head_wait() {
        for body in [
            CacheBody::pass(()),
            CacheBody::whole(Bytes::from_static(b"abc")),
            CacheBody::none(),
            CacheBody::omitted(),
        ] {
            assert!(!is_needed(body));
        }
        let (writer, body) = body_in_progress();
        assert!(is_needed(body));
        let body = || CacheBody::followed(writer.body().reader().unwrap(), 3);
        assert!(is_needed(body()));
        writer.push(Bytes::from_static(b"a"));
        assert!(!is_needed(body()));
        let (writer, failed) = body_in_progress();
        drop(writer);
        assert!(!is_needed(failed));
    }

    /// The task does not yield between the polls, so no time passes for its timers.
    #[tokio::test]
    async fn head_waits_for_the_part_that_the_handler_sends_next() {
        let (writer, body) = body_in_progress();
        let mut waiting = WaitingResponse::new(response(body));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(waiting.poll_wait(&mut cx).is_pending());
        }
        writer.push(Bytes::from_static(b"abc"));
        assert!(waiting.poll_wait(&mut cx).is_ready());
        let mut body = pin!(waiting.into_response().into_body());
        match body.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(Ok(part))) => assert_eq!(part, "abc"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn head_leaves_alone_if_the_handler_sends_no_part_in_time() {
        let (_writer, body) = body_in_progress();
        let mut waiting = WaitingResponse::new(response(body));
        let wait = poll_fn(|cx| waiting.poll_wait(cx));
        timeout(Duration::from_secs(20), wait).await.expect("the head leaves");
    }
}
