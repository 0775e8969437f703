//! Bodies whose chunks are ready before the head of the response leaves.

use std::{convert::Infallible, future::poll_fn, pin::pin, task::Poll};

use actix_service::Service as _;
use actix_web::{
    App, HttpResponse,
    body::{BodyStream, MessageBody as _, SizedStream},
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, MemoryStore};
use bytes::Bytes;
use futures_util::stream;

const CHUNKS: [&str; 3] = ["one ", "two ", "three"];

/// A server that finds no chunk sends the head alone. Without `TCP_NODELAY`, the kernel may then hold
/// the body back until the client acknowledges the head, which takes about 40 ms.
#[actix_web::test]
async fn chunk_that_is_ready_leaves_with_the_head() {
    let cache = Cache::new(MemoryStore::new(1024 * 1024));
    let chunks = || stream::iter(CHUNKS.map(|text| Ok::<_, Infallible>(Bytes::from(text))));
    let sized = move || async move {
        let length = CHUNKS.concat().len() as u64;
        let mut response = HttpResponse::Ok();
        response.insert_header(("cache-control", "max-age=60"));
        response.body(SizedStream::new(length, chunks()))
    };
    let of_unknown_length = move || async move {
        let mut response = HttpResponse::Ok();
        response.insert_header(("cache-control", "max-age=60"));
        response.body(BodyStream::new(chunks()))
    };
    let app = App::new()
        .wrap(cache)
        .route("/sized", web::get().to(sized))
        .route("/streamed", web::get().to(of_unknown_length));
    let app = init_service(app).await;
    for path in ["/sized", "/streamed"] {
        for outcome in ["fwd=uri-miss; stored", "hit;"] {
            let request = TestRequest::get().uri(path).insert_header(("host", "h")).to_request();
            let response = app.call(request).await.unwrap();
            let status = response.headers().get("cache-status").unwrap().to_str().unwrap();
            assert!(status.contains(outcome), "{path}: {status}");
            let mut body = pin!(response.into_body());
            let mut received = Vec::new();
            loop {
                // No task of the runtime runs between these reads.
                match poll_fn(|cx| Poll::Ready(body.as_mut().poll_next(cx))).await {
                    Poll::Ready(Some(chunk)) => received.extend_from_slice(&chunk.unwrap()),
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        panic!("{path} {outcome}: {received:?} leaves without the rest")
                    }
                }
            }
            assert_eq!(received, CHUNKS.concat().as_bytes());
        }
    }
}
