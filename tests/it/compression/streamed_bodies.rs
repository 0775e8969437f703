//! The bodies of responses that the cache codes while it sends them.

use actix_web::{HttpResponse, http::header::CONTENT_TYPE};
use actix_web_cache::{Cache, Rule};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, body::Incoming};
use tokio::time::timeout;

use super::{CODINGS, CountingStore, compressing, decoded, noise, page, policy, until};
use crate::support::{
    Answer, Client, HookedStore, ManualBodies, SETUPS, TestApp, Wire, builder, manual_bodies, raw,
    secs, test_app,
};

const CHUNK: usize = 600;

/// A response with the media type of JSON lines, whose body the test sends.
fn lines(bodies: &ManualBodies, length: Option<u64>, media_type: &'static str) -> HttpResponse {
    let mut response = bodies.response(length);
    response.headers_mut().insert(CONTENT_TYPE, media_type.parse().unwrap());
    response
}

/// Reads a body until it has at least `length` bytes.
async fn read(body: &mut Incoming, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let frame = timeout(secs(20), body.frame()).await.expect("the next part of the body");
        bytes.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap_or_default());
    }
    bytes
}

/// Without `TCP_NODELAY`, the kernel may hold back a body that leaves after its head, until the client
/// acknowledges the head, which takes about 40 ms.
#[actix_web::test]
async fn head_of_a_whole_body_leaves_with_its_first_part() {
    // This store has no copies, so that each hit is coded while it is sent.
    let builder = Cache::builder(HookedStore::new()).policy(policy());
    let cache = builder.rule(Rule::prefix("/bypass").bypass()).build().unwrap();
    let app = test_app(&cache, |request, _| {
        let length = 200 * request.query_string().len();
        HttpResponse::Ok().content_type("text/html").body(page().repeat(5)[..length].to_owned())
    });
    // Bodies of one chunk and of several, which the encoder gets one after the other.
    for query in ["a".repeat(50), "a".repeat(1000)] {
        for coding in CODINGS {
            for (method, path, status) in [
                ("GET", "/", "fwd=uri-miss; stored"),
                ("GET", "/", "; hit;"),
                ("GET", "/bypass", "fwd=bypass"),
                ("POST", "/", "fwd=method"),
            ] {
                let case = format!("{method} {path} {coding} {}", query.len());
                let mut wire = Wire::open(app.server.addr);
                wire.send(format!(
                    "{method} {path}?{coding}{query} HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\
                     Accept-Encoding: {coding}\r\n\r\n"
                ));
                let first = String::from_utf8_lossy(wire.first_bytes()).into_owned();
                let (_, part) = first.split_once("\r\n\r\n").expect("the whole head");
                assert!(!part.is_empty(), "{case}: the head leaves alone");
                let message = wire.receive();
                assert!(message.head.contains(status), "{case}: {}", message.head);
                let length = 200 * (query.len() + coding.len());
                assert_eq!(decoded(coding, &message.body).len(), length, "{case}");
            }
        }
    }
}

/// Each chunk arrives before the next one is sent. The chunks cannot be compressed, so that their
/// bytes can be counted.
#[actix_web::test]
async fn chunks_arrive_as_the_handler_sends_them() {
    let (bodies, mut senders) = manual_bodies();
    let builder = builder().0.policy(policy()).rule(Rule::prefix("/bypass").bypass());
    let app = test_app(&builder.build().unwrap(), move |_, _| {
        lines(&bodies, None, "application/x-ndjson")
    });
    let noise = Bytes::from(noise(20 * CHUNK));
    for (protocol, workers) in SETUPS {
        let client = Client::new(app.server.addr, protocol);
        for (path, coding) in CODINGS.iter().flat_map(|coding| [("/", coding), ("/bypass", coding)])
        {
            let path = format!("{path}?{protocol:?}-{workers}-{coding}");
            let fields = [("accept-encoding", *coding)];
            let response = client.start(Method::GET, &path, &fields, "").await.unwrap();
            assert_eq!(response.headers()["content-encoding"], **coding);
            let (sender, mut body) = (senders.recv().await.unwrap(), response.into_body());
            let mut received = Vec::new();
            // The last chunk is long enough to be compressed on another thread.
            for chunk in
                [noise.slice(..CHUNK), noise.slice(CHUNK..2 * CHUNK), noise.slice(2 * CHUNK..)]
            {
                assert!(sender.send(chunk.clone()).await);
                received.extend(read(&mut body, chunk.len()).await);
            }
            drop(sender);
            received.extend_from_slice(&body.collect().await.unwrap().to_bytes());
            assert!(decoded(coding, &received) == noise, "{path}");
        }
    }
}

/// Events are not coded, so that the server needs no encoder for each of many clients.
#[actix_web::test]
async fn events_arrive_uncoded() {
    let (bodies, mut senders) = manual_bodies();
    let app = test_app(&compressing().0.build().unwrap(), move |_, _| {
        lines(&bodies, None, "text/event-stream")
    });
    let fields = [("accept-encoding", "gzip")];
    let response = app.client.start(Method::GET, "/", &fields, "").await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    let (sender, mut body) = (senders.recv().await.unwrap(), response.into_body());
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        assert!(sender.send(event).await);
        assert_eq!(read(&mut body, event.len()).await, event.as_bytes());
    }
}

/// Neither a body that fails nor one that ends before its declared length looks complete.
#[actix_web::test]
async fn body_that_breaks_off_is_an_error_for_the_client() {
    let (bodies, mut senders) = manual_bodies();
    let builder = builder().0.policy(policy()).rule(Rule::prefix("/bypass").bypass());
    let app = test_app(&builder.build().unwrap(), move |request, _| {
        let length = request.path().ends_with("length").then_some(50_000);
        lines(&bodies, length, "application/x-ndjson")
    });
    let noise = Bytes::from(noise(20_000));
    for (protocol, _) in SETUPS {
        let client = Client::new(app.server.addr, protocol);
        for path in ["/", "/length", "/bypass", "/bypass/length"] {
            for (coding, fails) in
                CODINGS.into_iter().flat_map(|coding| [(coding, true), (coding, false)])
            {
                if !fails && !path.ends_with("length") {
                    continue;
                }
                let fields = [("accept-encoding", coding)];
                let sending = async {
                    let sender = senders.recv().await.unwrap();
                    for chunk in [noise.slice(..CHUNK), noise.slice(CHUNK..)] {
                        assert!(sender.send(chunk).await);
                    }
                    if fails {
                        sender.fail().await;
                    }
                };
                let request = async {
                    // The server may close the connection before it has sent the head.
                    match client.start(Method::GET, path, &fields, "").await {
                        Err(_) => true,
                        Ok(response) => {
                            assert_eq!(response.headers()["content-encoding"], coding);
                            response.into_body().collect().await.is_err()
                        }
                    }
                };
                let (is_error, ()) = futures_util::join!(timeout(secs(20), request), sending);
                assert!(is_error.unwrap(), "{path} in {coding} by {protocol:?}, {fails}");
            }
        }
    }
}

/// The server drops the body of a client that has disconnected.
#[actix_web::test]
async fn body_is_dropped_when_the_client_disconnects() {
    let (bodies, mut senders) = manual_bodies();
    let builder = builder().0.policy(policy()).rule(Rule::prefix("/").bypass());
    let app = test_app(&builder.build().unwrap(), move |_, _| {
        lines(&bodies, None, "application/x-ndjson")
    });
    for (protocol, _) in SETUPS {
        let client = Client::new(app.server.addr, protocol);
        let fields = [("accept-encoding", "br")];
        let response = client.start(Method::GET, "/", &fields, "").await.unwrap();
        let sender = senders.recv().await.unwrap();
        assert!(sender.send(noise(5000)).await);
        drop((response, client));
        let chunks = async { while sender.send(noise(5000)).await {} };
        timeout(secs(20), chunks).await.expect("the body is dropped");
    }
}

async fn get(app: &TestApp, accepted: &str) -> Answer {
    app.client.get_with("/", &[("accept-encoding", accepted)]).await
}

/// The leader and its follower get the body in their codings, while it is stored as the handler sends
/// it.
#[actix_web::test]
async fn follower_gets_its_own_coding_and_the_store_gets_none() {
    for (protocol, _) in SETUPS {
        let (bodies, mut senders) = manual_bodies();
        let app = test_app(&compressing().0.build().unwrap(), move |_, _| {
            lines(&bodies, Some(10_000), "application/json")
        });
        let client = Client::new(app.server.addr, protocol);
        let start = async |coding| {
            let fields = [("accept-encoding", coding)];
            client.start(Method::GET, "/", &fields, "").await.unwrap()
        };
        let leader = start("gzip").await;
        let sender = senders.recv().await.unwrap();
        let mut responses = vec![("gzip", leader)];
        for coding in ["br", "zstd", "gzip", "identity"] {
            responses.push((coding, start(coding).await));
        }
        let body = Bytes::from(noise(10_000));
        assert!(sender.send(body.slice(..5000)).await && sender.finish(body.slice(5000..)).await);
        for (number, (coding, response)) in responses.into_iter().enumerate() {
            let (head, received) = response.into_parts();
            let status = head.headers["cache-status"].to_str().unwrap();
            assert_eq!(status.contains("collapsed"), number > 0, "{coding}: {status}");
            let vary = head.headers["vary"].to_str().unwrap();
            assert_eq!(vary.matches("accept-encoding").count(), 1, "{coding}: {vary}");
            let received = received.collect().await.unwrap().to_bytes();
            if coding == "identity" {
                assert!(received == body && !head.headers.contains_key("content-encoding"));
            } else {
                assert_eq!(head.headers["content-encoding"], coding);
                assert!(decoded(coding, &received) == body, "{coding}");
            }
        }
        let hit = get(&app, "").await;
        assert!(hit.is_hit() && hit.body == body, "by {protocol:?}");
        assert_eq!(app.runs.get(), 1);
    }
}

/// A body of megabytes in one chunk, of which no copy fits into the store.
#[actix_web::test]
async fn long_body_of_one_chunk_is_coded() {
    let body: Bytes = page().repeat(60).into();
    let sent = body.clone();
    let app = test_app(&compressing().0.build().unwrap(), move |_, _| {
        HttpResponse::Ok().content_type("text/html").body(sent.clone())
    });
    for (protocol, _) in SETUPS {
        let client = Client::new(app.server.addr, protocol);
        for coding in CODINGS {
            let answer = client.get_with("/", &[("accept-encoding", coding)]).await;
            assert_eq!(answer.field("content-encoding").as_deref(), Some(coding));
            assert!(decoded(coding, &answer.body) == body, "{coding} by {protocol:?}");
        }
    }
}

/// The response to HEAD is coded by its fields only, also if the handler gets a GET request for it,
/// and the body is stored.
#[actix_web::test]
async fn head_request_stores_the_uncoded_body_of_the_get_request_in_its_place() {
    for (protocol, _) in SETUPS {
        let store = CountingStore::default();
        let policy = policy().fetch_on_head();
        let cache = Cache::builder(store).policy(policy).build().unwrap();
        let (bodies, mut senders) = manual_bodies();
        let app = test_app(&cache, move |_, _| lines(&bodies, Some(4000), "application/json"));
        let client = Client::new(app.server.addr, protocol);
        let body = Bytes::from(noise(4000));
        let sending = async { senders.recv().await.unwrap().finish(body.clone()).await };
        let fields = [("accept-encoding", "gzip")];
        let (head, sent) = futures_util::join!(client.send(Method::HEAD, "/", &fields), sending);
        assert!(sent && head.body.is_empty(), "by {protocol:?}");
        assert_eq!(head.field("content-encoding").as_deref(), Some("gzip"));
        assert_eq!(head.field("content-length"), None);
        let hit = until(async || client.get("/").await, Answer::is_hit).await;
        assert!(hit.body == body, "by {protocol:?}");
        assert_eq!(app.runs.get(), 1);
    }
}

/// A stale response is refreshed in the background, where no client receives a coded body.
#[actix_web::test]
async fn background_refresh_stores_the_uncoded_body() {
    let (builder, clock) = builder();
    let policy = policy().stale_while_revalidate(secs(600));
    let app = test_app(&builder.policy(policy).build().unwrap(), |_, run| {
        HttpResponse::Ok().content_type("text/html").body(format!("{}{run}", page()))
    });
    assert!(decoded("gzip", &get(&app, "gzip").await.body).ends_with(b"1"));
    clock.advance(secs(61));
    assert!(decoded("gzip", &get(&app, "gzip").await.body).ends_with(b"1"));
    let fresh = until(async || get(&app, "").await, |answer| answer.text().ends_with('2')).await;
    assert_eq!(fresh.text(), format!("{}2", page()));
}

/// HTTP/1.0 has no chunks, so the body keeps its length. A copy has one as well.
#[actix_web::test]
async fn response_by_http_1_0_is_coded_only_as_a_copy() {
    let store = CountingStore::default();
    let builder = Cache::builder(store.clone()).policy(policy()).store_timeout(secs(60));
    let app = test_app(&builder.build().unwrap(), |_, _| {
        HttpResponse::Ok().content_type("text/html").body(page())
    });
    let ask = |accepted: &str| {
        let request = format!(
            "GET / HTTP/1.0\r\nHost: {}\r\nAccept-Encoding: {accepted}\r\n\r\n",
            app.server.addr
        );
        let answer = raw(app.server.addr, request.as_bytes());
        let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let (head, body) = answer.split_at(at + 4);
        (String::from_utf8_lossy(head).to_lowercase(), body.to_vec())
    };
    let held = store.hold_copies.clone().acquire_owned().await.unwrap();
    for (accepted, status) in
        [("gzip", "fwd=uri-miss; stored"), ("gzip", "; hit"), ("gzip, identity;q=0", "fwd=bypass")]
    {
        let (head, body) = ask(accepted);
        assert!(head.contains(status) && !head.contains("content-encoding"), "{head}");
        assert!(head.contains(&format!("content-length: {}", page().len())), "{head}");
        assert!(head.contains("accept-encoding") && body == page().as_bytes(), "{head}");
    }
    drop(held);
    super::get_coded(&app.client, "/", "gzip").await;
    let (head, body) = ask("gzip");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(decoded("gzip", &body) == page().as_bytes());
}
