//! Range requests while the complete body is still being received.

use actix_web_cache::{Cache, ManualClock, Policy, store::Store as _};
use bytes::Bytes;
use http_body_util::BodyExt as _;

use crate::{
    bodies::fill_server::{FillServer, fill_server, fill_server_with},
    support::{Answer, BodySender, Protocol, SETUPS, START, secs, store, wait_until},
};

const LENGTH: usize = 10_000;

/// The number of bytes that have arrived at the time of the range requests.
const ARRIVED: usize = 1000;

/// Ranges, and the bytes that satisfy them. `None` is for a range beyond the end.
const RANGES: [(&str, Option<(usize, usize)>); 6] = [
    ("bytes=0-", Some((0, LENGTH))),
    ("bytes=0-99", Some((0, 100))),
    ("bytes=500-", Some((500, LENGTH))),
    ("bytes=5000-5099", Some((5000, 5100))),
    ("bytes=-100", Some((LENGTH - 100, LENGTH))),
    ("bytes=99999999-", None),
];

/// A body in which all ranges differ.
fn full_body(first: usize) -> Bytes {
    let numbers = (first..first + LENGTH / 5).map(|n| format!("{n:04}\n"));
    numbers.collect::<String>().into()
}

/// Asserts that a range was cut from this body.
fn assert_range(answer: &Answer, range: Option<(usize, usize)>, body: &Bytes, case: &str) {
    let content_range = answer.field("content-range");
    match range {
        Some((start, end)) => {
            assert_eq!(answer.status.as_u16(), 206, "{case}");
            let want = format!("bytes {start}-{}/{LENGTH}", end - 1);
            assert_eq!(content_range, Some(want), "{case}");
            assert!(answer.body == body[start..end], "{case}");
        }
        None => {
            assert_eq!((answer.status.as_u16(), answer.body.len()), (416, 0), "{case}");
            assert_eq!(content_range, Some(format!("bytes */{LENGTH}")), "{case}");
        }
    }
}

/// Sends a request whose response begins to arrive.
async fn begin_fill(
    server: &mut FillServer,
    protocol: Protocol,
    body: &Bytes,
) -> (hyper::Response<hyper::body::Incoming>, BodySender) {
    let client = server.client(protocol);
    let (response, sender) = server.begin(&client, "/", &[("want-etag", "\"a\"")]).await;
    assert!(sender.send(body.slice(..ARRIVED)).await);
    (response, sender)
}

/// A handler that knows no ranges sends the complete body. A client must not get a part of what has
/// arrived so far, nor a 416 for a range that will exist.
#[actix_web::test]
async fn range_request_during_the_first_fill_gets_the_response_of_the_handler() {
    let body = full_body(0);
    for (protocol, workers) in SETUPS {
        for length in [Some(LENGTH as u64), None] {
            let mut server = fill_server(workers, length, Policy::new());
            let (first, sender) = begin_fill(&mut server, protocol, &body).await;
            for (runs, (range, _)) in (2..).zip(RANGES) {
                let case = format!("{range} of {length:?} bytes by {protocol:?}");
                let client = server.client(protocol);
                let request = tokio::task::spawn_local(async move {
                    client.get_with("/", &[("range", range)]).await
                });
                server.ran(runs).await;
                assert!(server.sender().await.finish(body.clone()).await, "{case}");
                let answer = request.await.unwrap();
                assert_eq!(
                    (answer.status.as_u16(), answer.field("content-range")),
                    (200, None),
                    "{case}"
                );
                assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=range", "{case}");
                assert!(answer.body == body, "{case}");
            }
            assert!(sender.finish(body.slice(ARRIVED..)).await);
            assert!(first.into_body().collect().await.unwrap().to_bytes() == body);
            server.fills_ended().await;
            for (range, want) in RANGES {
                let case = format!("{range} of {length:?} stored bytes by {protocol:?}");
                let answer = server.client(protocol).get_with("/", &[("range", range)]).await;
                assert!(answer.is_hit(), "{case}");
                assert_range(&answer, want, &body, &case);
            }
        }
    }
}

/// The cache removes `Range` from a request that revalidates, so it cuts the range itself once the
/// new body is complete.
#[actix_web::test]
async fn range_request_during_the_replacement_of_a_stale_page_is_cut_from_the_new_page() {
    let (old, new) = (full_body(0), full_body(5000));
    for (protocol, workers) in SETUPS {
        for length in [Some(LENGTH as u64), None] {
            let (store, clock) = (store(), ManualClock::at(START));
            let cache = Cache::builder(store.clone()).clock(clock.clock()).build().unwrap();
            let mut server = fill_server_with(&cache, store.coordinator(), workers, length);
            let (first, sender) = begin_fill(&mut server, protocol, &old).await;
            assert!(sender.finish(old.slice(ARRIVED..)).await);
            assert!(first.into_body().collect().await.unwrap().to_bytes() == old);
            server.fills_ended().await;
            clock.advance(secs(61));
            let (second, sender) = begin_fill(&mut server, protocol, &new).await;
            let requests = RANGES.map(|(range, _)| {
                let client = server.client(protocol);
                tokio::task::spawn_local(
                    async move { client.get_with("/", &[("range", range)]).await },
                )
            });
            wait_until("all requests have arrived", || server.arrived.get() == 2 + RANGES.len())
                .await;
            assert!(sender.finish(new.slice(ARRIVED..)).await);
            assert!(second.into_body().collect().await.unwrap().to_bytes() == new);
            for (request, (range, want)) in requests.into_iter().zip(RANGES) {
                let case = format!("{range} of {length:?} bytes by {protocol:?}");
                assert_range(&request.await.unwrap(), want, &new, &case);
            }
            assert_eq!(server.runs.get(), 2, "{protocol:?}");
            assert_eq!(server.conditions.take(), ["", "if-none-match: \"a\""], "{protocol:?}");
        }
    }
}
