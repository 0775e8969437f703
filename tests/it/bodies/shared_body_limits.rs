//! A body that is not or no longer shared while it is produced: over the size limit, endless, of
//! another variant, private, or purged.

use std::time::Duration;

use actix_web_cache::{Cache, ManualClock, Policy, store::Store as _};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::{
    bodies::fill_server::{fill_server, fill_server_over, fill_server_with, next_chunk},
    support::{Client, Protocol, SETUPS, START, secs, store, wait_until},
};

#[actix_web::test]
async fn streamed_body_over_the_size_limit_goes_to_its_leader_only() {
    const PIECE: usize = 256 * 1024;
    let policy = || Policy::new().max_body_size(2 * PIECE);
    for (protocol, workers) in SETUPS {
        let mut server = fill_server(workers, None, policy());
        let leader = server.client(protocol);
        let (leader, sender) = server.begin(&leader, "/", &[]).await;
        let mut body = leader.into_body();
        let followers = server.followers(protocol, 3).await;
        for _ in 0..3 {
            assert!(sender.send(vec![b'x'; PIECE]).await, "{protocol:?}");
        }
        // The followers run the handler at once, and because of hit-for-miss the next request does,
        // too.
        server.ran(4).await;
        let next = server.followers(protocol, 1).await;
        server.ran(5).await;
        server.gate.add_permits(4);
        for _ in 0..4 {
            let sender = server.next_feed().await;
            assert!(sender.send("small").await);
        }
        for answer in followers.into_iter().chain(next) {
            assert_eq!(answer.await.unwrap().text(), "small", "{protocol:?}");
        }
        // The leader reads the rest of the body itself.
        let mut read = 0;
        while read < 3 * PIECE {
            read += next_chunk(&mut body).await.len();
        }
        wait_until("no bytes of the body are held", || server.coordinator.bytes_in_fills() == 0)
            .await;
        assert!(sender.send("end").await);
        drop(sender);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "end", "{protocol:?}");
    }
}

#[actix_web::test]
async fn endless_stream_is_not_collapsed_and_ends_with_its_client() {
    for (protocol, workers) in SETUPS {
        for fields in [&[("want-content-type", "text/event-stream; charset=utf-8")][..], &[]] {
            let mut server =
                fill_server(workers, None, Policy::new().wait_limit(Duration::from_millis(50)));
            let mut open = Vec::new();
            for client in 1..=2 {
                let connection = server.client(protocol);
                let (response, sender) = server.begin(&connection, "/", fields).await;
                let status = response.headers().get("cache-status").unwrap().to_str().unwrap();
                assert_eq!(status.ends_with("detail=endless"), !fields.is_empty(), "{status}");
                let mut body = response.into_body();
                for event in ["one", "two"] {
                    assert!(sender.send(event).await);
                    assert_eq!(next_chunk(&mut body).await, event, "{protocol:?}");
                }
                assert_eq!(server.runs.get(), client);
                open.push((connection, body, sender));
            }
            for (connection, body, sender) in open {
                drop((body, connection));
                // actix notices that a client has gone when it writes.
                let writes = async { while sender.send("three").await {} };
                timeout(secs(20), writes).await.expect("the server drops the body");
            }
            server.fills_ended().await;
        }
    }
}

#[actix_web::test]
async fn open_body_of_another_variant_is_not_shared() {
    for (protocol, workers) in SETUPS {
        let mut server = fill_server(workers, Some(2), Policy::new());
        let addr = server.server.addr;
        let get = |language: &'static str| {
            let client = Client::new(addr, protocol);
            tokio::task::spawn_local(async move {
                let fields = [("accept-language", language), ("want-vary", "accept-language")];
                client.get_with("/", &fields).await
            })
        };
        let german = get("de");
        server.ran(1).await;
        let (french, german_too) = (get("fr"), get("de"));
        wait_until("all requests have arrived", || server.arrived.get() == 3).await;
        let first = server.sender().await;
        assert!(first.send("d").await);
        // `Vary` of the first response is known by now, although its body is incomplete.
        server.ran(2).await;
        let french_too = get("fr");
        wait_until("all requests have arrived", || server.arrived.get() == 4).await;
        let second = server.sender().await;
        for (sender, rest) in [(first, "e"), (second, "fr")] {
            assert!(sender.send(rest).await);
        }
        for (request, want) in
            [(german, "de"), (german_too, "de"), (french, "fr"), (french_too, "fr")]
        {
            assert_eq!(
                timeout(secs(20), request).await.unwrap().unwrap().text(),
                want,
                "{protocol:?}"
            );
        }
        assert_eq!(server.runs.get(), 2, "{protocol:?}");
        server.fills_ended().await;
    }
}

#[actix_web::test]
async fn open_body_of_a_private_response_is_not_shared() {
    for want in [
        ("want-cache-control", "private"),
        ("want-cache-control", "no-store"),
        ("want-set-cookie", "a=1"),
        ("authorization", "Basic YTpi"),
        ("cookie", "sid=1"),
    ] {
        let mut server = fill_server(2, Some(3), Policy::new());
        let alice = server.client(Protocol::Http1);
        let alice = tokio::task::spawn_local(async move { alice.get_with("/", &[want]).await });
        server.ran(1).await;
        let bob = server.followers(Protocol::Http1, 1).await.remove(0);
        let for_alice = server.sender().await;
        assert!(for_alice.send("al").await);
        server.ran(2).await;
        let for_bob = server.sender().await;
        assert!(for_bob.send("bob").await);
        drop(for_bob);
        assert_eq!(bob.await.unwrap().text(), "bob", "{want:?}");
        assert!(for_alice.send("i").await);
        drop(for_alice);
        assert_eq!(alice.await.unwrap().text(), "ali", "{want:?}");
    }
}

#[actix_web::test]
async fn purge_leaves_open_body_to_its_readers_but_not_to_later_requests() {
    let store = store();
    let handle = Cache::new(store.clone()).handle();
    let mut server = fill_server_over(&store, 2, Some(3), Policy::new());
    let client = server.client(Protocol::Http1);
    let (response, old) = server.begin(&client, "/", &[]).await;
    assert!(old.send("ol").await);
    handle.purge_url(format!("http://{}/", server.server.addr)).await.unwrap();
    let next = server.followers(Protocol::Http1, 2).await;
    server.ran(2).await;
    let new = server.sender().await;
    for (sender, rest) in [(old, "d"), (new, "new")] {
        assert!(sender.send(rest).await);
    }
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "old");
    for answer in next {
        assert_eq!(answer.await.unwrap().text(), "new");
    }
    server.fills_ended().await;
    assert_eq!(server.client(Protocol::Http1).get("/").await.text(), "new");
}

/// The body takes longer than its response is fresh. The handler could confirm by a 304 that the
/// response is current, but not that its body will be complete.
#[actix_web::test]
async fn open_body_of_a_response_that_became_stale_is_neither_shared_nor_revalidated() {
    for (protocol, workers) in SETUPS {
        for length in [Some(8), None] {
            let case = format!("{length:?} bytes, {protocol:?}");
            let (store, clock) = (store(), ManualClock::at(START));
            let cache = Cache::builder(store.clone()).clock(clock.clock()).build().unwrap();
            let mut server = fill_server_with(&cache, store.coordinator(), workers, length);
            let fields = [("want-cache-control", "max-age=1"), ("want-etag", "\"a\"")];
            let first = server.client(protocol);
            let (first, old) = server.begin(&first, "/", &fields).await;
            assert!(old.send("half").await, "{case}");
            clock.advance(secs(2));
            let second = server.client(protocol);
            let second =
                tokio::task::spawn_local(async move { second.get_with("/", &fields).await });
            wait_until("both requests have arrived", || server.arrived.get() == 2).await;
            if length.is_some() {
                // Of a body of unknown length, followers learn only the end.
                server.ran(2).await;
            }
            old.fail().await;
            assert!(first.into_body().collect().await.is_err(), "{case}");
            let new = server.sender().await;
            assert!(new.finish("complete").await, "{case}");
            let second = second.await.unwrap();
            assert_eq!((second.status.as_u16(), second.text()), (200, "complete"), "{case}");
            assert_eq!(server.conditions.take(), ["", ""], "{case}");
            server.fills_ended().await;
            let hit = server.client(protocol).get("/").await;
            assert_eq!((hit.is_hit(), hit.text()), (true, "complete"), "{case}");
        }
    }
}
