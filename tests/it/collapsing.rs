//! Many requests at once for what is not stored: the handler is asked once, where that may be.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::header::IF_NONE_MATCH};
use actix_web_cache::{Cache, MemoryStore, Policy, store::Store as _};
use futures_util::future::join_all;
use tokio::{sync::Barrier, time::timeout};

use crate::support::{
    Answer, CLIENTS, Client, House, Protocol, SETUPS, Watched, builder, eventually, secs, store,
};

fn shared(cache: Cache) -> impl Fn() -> Cache + Clone + Send + 'static {
    move || cache.clone()
}

#[actix_web::test]
async fn many_clients_of_a_cold_page_are_one_run_of_its_handler() {
    for (protocol, workers) in SETUPS {
        let (house, store) = (House::new(), store());
        let coordinator = store.coordinator().clone();
        // A cache of its own for each worker: what they share is the store.
        let cache = move || Cache::new(store.clone());
        let server = house.open(workers, cache, async |house, _| {
            HttpResponse::Ok().body(format!("run {}", house.run().await))
        });
        let answers = house.rush(&server, protocol, &[&[]]).await;
        assert!(answers.iter().all(|answer| answer.text() == "run 1"), "{protocol:?}");
        assert_eq!(house.runs.get(), 1, "{protocol:?} by {workers}");
        let led = answers.iter().filter(|answer| answer.is_stored()).count();
        assert_eq!(led, 1);
        let followed = |answer: &&Answer| {
            let status = answer.cache_status();
            status == "fwd=uri-miss; collapsed" || status.starts_with("hit")
        };
        assert_eq!(answers.iter().filter(followed).count(), CLIENTS - 1);
        assert!(answers.iter().filter(followed).all(|answer| answer.field("age").is_some()));
        assert_eq!((coordinator.open_flights(), coordinator.open_fills()), (0, 0));
    }
}

#[actix_web::test]
async fn what_cannot_be_stored_is_asked_for_by_all_at_once_and_later_nobody_waits() {
    let (house, (builder, _)) = (House::new(), builder());
    let all = Arc::new([Barrier::new(CLIENTS - 1), Barrier::new(CLIENTS)]);
    let server = house.open(2, shared(builder.build().unwrap()), async move |house, _| {
        let run = house.runs.count();
        // All runs but the very first end only when all of their burst have begun.
        if run > 1 {
            let burst = &all[usize::from(run > CLIENTS)];
            timeout(secs(20), burst.wait()).await.expect("all of a burst run at once");
        }
        HttpResponse::Ok().insert_header(("cache-control", "no-store")).body(format!("run {run}"))
    });
    for burst in 1..=2 {
        let answers = house.rush(&server, Protocol::Http1, &[&[]]).await;
        assert_eq!(house.runs.get(), burst * CLIENTS);
        let mut bodies: Vec<_> = answers.iter().map(Answer::text).collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), CLIENTS, "each has an answer of its own");
    }
}

#[actix_web::test]
async fn when_who_asks_is_gone_another_asks() {
    let (house, (builder, _)) = (House::new(), builder());
    let server = house.open(2, shared(builder.build().unwrap()), async |house, _| {
        let run = house.run().await;
        assert!(run > 1, "the first dies, and its connection with it");
        HttpResponse::Ok().body(format!("run {run}"))
    });
    let first = Client::new(server.addr, Protocol::Http1);
    let dies = async { first.send_body(hyper::Method::GET, "/", &[], "").await.is_err() };
    let others = async {
        eventually("as many as are awaited", || house.runs.get() == 1).await;
        let answers = house.rush(&server, Protocol::Http1, &[&[]]);
        let second = async {
            eventually("as many as are awaited", || house.runs.get() == 2).await;
            house.gate.add_permits(1);
        };
        futures_util::join!(answers, second).0
    };
    let (died, answers) = futures_util::join!(dies, others);
    assert!(died);
    assert!(answers.iter().all(|answer| answer.text() == "run 2"));
    assert_eq!(house.runs.get(), 2);
}

#[actix_web::test]
async fn a_handler_that_fails_is_asked_by_each_and_may_be_shared_again_at_once() {
    let (house, (builder, _)) = (House::new(), builder());
    let server = house.open(2, shared(builder.build().unwrap()), async |house, _| {
        let run = house.run().await;
        if run <= CLIENTS {
            return HttpResponse::InternalServerError().body(format!("run {run}"));
        }
        HttpResponse::Ok().body(format!("run {run}"))
    });
    let rest = async {
        eventually("as many as are awaited", || house.runs.get() == CLIENTS).await;
        house.gate.add_permits(CLIENTS - 1);
    };
    let (answers, ()) = futures_util::join!(house.rush(&server, Protocol::Http1, &[&[]]), rest);
    assert!(answers.iter().all(|answer| answer.status == 500));
    let answers = house.rush(&server, Protocol::Http1, &[&[]]).await;
    let shared = format!("run {}", CLIENTS + 1);
    assert!(answers.iter().all(|answer| answer.text() == shared), "{}", house.runs.get());
}

#[actix_web::test]
async fn each_variant_is_one_run() {
    let (house, (builder, _)) = (House::new(), builder());
    let server = house.open(4, shared(builder.build().unwrap()), async |house, request| {
        house.run().await;
        let language =
            request.headers().get("accept-language").unwrap().to_str().unwrap().to_owned();
        HttpResponse::Ok().insert_header(("vary", "accept-language")).body(language)
    });
    let (german, french) = ([("accept-language", "de")], [("accept-language", "fr")]);
    let second = async {
        eventually("as many as are awaited", || house.runs.get() == 2).await;
        house.gate.add_permits(1);
    };
    let fields: [&[(&str, &str)]; 2] = [&german, &french];
    let rush = house.rush(&server, Protocol::Http1, &fields);
    let (answers, ()) = futures_util::join!(rush, second);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.text(), ["de", "fr"][n % 2]);
    }
    assert_eq!(house.runs.get(), 2);
}

#[actix_web::test]
async fn who_learns_of_variants_when_about_to_ask_waits_for_its_own() {
    let (house, store) = (House::new(), Watched::new());
    let cache = Cache::new(store.clone());
    let server = house.open(2, shared(cache), async |house, request| {
        let language =
            request.headers().get("accept-language").unwrap().to_str().unwrap().to_owned();
        house.run().await;
        HttpResponse::Ok().insert_header(("vary", "accept-language")).body(language)
    });
    let clients = [(); 3].map(|()| Client::new(server.addr, Protocol::Http1));
    let [early, german, french] = &clients;
    let before_all = store.stop_at("looked up");
    let early = early.get_with("/", &[("accept-language", "fr")]);
    let rest = async {
        before_all.reached().await;
        house.gate.add_permits(1);
        assert_eq!(german.get_with("/", &[("accept-language", "de")]).await.text(), "de");
        store.stored().await;
        let again = async {
            eventually("as many as are awaited", || house.runs.get() == 2).await;
            let once_more = store.stop_at("looked up");
            before_all.release();
            once_more.reached().await;
            once_more.release();
            house.gate.add_permits(2);
        };
        futures_util::join!(french.get_with("/", &[("accept-language", "fr")]), again).0
    };
    let (early, french) = futures_util::join!(early, rest);
    assert_eq!((early.text(), french.text()), ("fr", "fr"));
    assert_eq!(house.runs.get(), 2);
}

#[actix_web::test]
async fn who_may_not_share_does_not_wait_either() {
    let (house, (builder, _)) = (House::new(), builder());
    let server = house.open(2, shared(builder.build().unwrap()), async |house, request| {
        let who = request.headers().get("cookie").map_or("nobody", |who| who.to_str().unwrap());
        let who = who.to_owned();
        house.run().await;
        HttpResponse::Ok().body(who)
    });
    let (nobody, alice) =
        (Client::new(server.addr, Protocol::Http1), Client::new(server.addr, Protocol::Http1));
    let both =
        async { futures_util::join!(nobody.get("/"), alice.get_with("/", &[("cookie", "alice")])) };
    let door = async {
        eventually("as many as are awaited", || house.runs.get() == 2).await;
        house.gate.add_permits(2);
    };
    let ((nobody, alice), ()) = futures_util::join!(both, door);
    assert_eq!((nobody.text(), alice.text()), ("nobody", "alice"));
}

#[actix_web::test]
async fn a_stale_page_is_validated_once_for_all() {
    let (house, (builder, clock)) = (House::new(), builder());
    let server = house.open(2, shared(builder.build().unwrap()), async |house, request| {
        house.run().await;
        let known = request.headers().get(IF_NONE_MATCH).is_some_and(|tag| tag == "\"a\"");
        let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        let answer = answer.insert_header(("etag", "\"a\""));
        if known { answer.finish() } else { answer.body("page") }
    });
    let first = house.rush(&server, Protocol::Http1, &[&[]]).await;
    assert!(first.iter().all(|answer| answer.text() == "page"));
    clock.advance(secs(61));
    let answers = house.rush(&server, Protocol::Http1, &[&[]]).await;
    assert!(answers.iter().all(|answer| answer.text() == "page" && answer.status == 200));
    let validated = answers
        .iter()
        .filter(|answer| answer.cache_status() == "fwd=stale; fwd-status=304; stored");
    assert_eq!(validated.count(), 1);
    assert_eq!(house.runs.get(), 2);
}

#[actix_web::test]
async fn who_comes_after_a_purge_does_not_wait_for_what_began_before_it() {
    let house = House::new();
    let cache = Cache::builder(MemoryStore::new(1024 * 1024))
        .policy(Policy::new().default_ttl(Duration::from_secs(600)))
        .build()
        .unwrap();
    let handle = cache.handle();
    let server = house.open(2, shared(cache), async |house, _| {
        HttpResponse::Ok().body(format!("run {}", house.run().await))
    });
    let client = || Client::new(server.addr, Protocol::Http1);
    let (before, after) = (client(), client());
    let second = async {
        eventually("as many as are awaited", || house.runs.get() == 1).await;
        handle.purge_url(format!("http://{}/", server.addr)).await.unwrap();
        after.get("/").await
    };
    let door = async {
        eventually("as many as are awaited", || house.runs.get() == 2).await;
        house.gate.add_permits(2);
    };
    let (one, two, ()) = futures_util::join!(before.get("/"), second, door);
    assert_eq!((one.text(), two.text()), ("run 1", "run 2"));
    assert_eq!(client().get("/").await.text(), "run 2", "what began before is not stored");
}

#[actix_web::test]
async fn who_has_waited_for_too_long_asks_for_itself_and_those_after_begin_anew() {
    let (house, (builder, _)) = (House::new(), builder());
    let policy = Policy::new().wait_limit(Duration::from_millis(100));
    let server =
        house.open(2, shared(builder.policy(policy).build().unwrap()), async |house, _| {
            HttpResponse::Ok().body(format!("run {}", house.run().await))
        });
    let clients: Vec<_> = (0..4).map(|_| Client::new(server.addr, Protocol::Http1)).collect();
    let late = Client::new(server.addr, Protocol::Http1);
    let later = Client::new(server.addr, Protocol::Http1);
    let waiting = join_all(clients.iter().map(|client| client.get("/")));
    let rest = async {
        eventually("all ask", || house.runs.get() == 4).await;
        // One of those who come now asks, and the other waits for it.
        let answers = async { futures_util::join!(late.get("/"), later.get("/")) };
        let door = async {
            eventually("they have come", || house.arrived.get() == 6).await;
            eventually("one asks", || house.runs.get() == 5).await;
            house.gate.add_permits(5);
        };
        futures_util::join!(answers, door).0
    };
    let (answers, (one, other)) = futures_util::join!(waiting, rest);
    let mut runs: Vec<_> = answers.iter().map(Answer::text).collect();
    runs.sort_unstable();
    assert_eq!(runs, ["run 1", "run 2", "run 3", "run 4"]);
    // Whichever it waited for: one that was asked for after it came, or the store's.
    assert!(house.runs.get() <= 6, "{} {}", one.text(), other.text());
}

#[actix_web::test]
async fn a_reader_whose_own_policy_stores_less_is_not_given_what_is_on_its_way() {
    let (house, store) = (House::new(), store());
    let generous = Cache::new(store.clone());
    let strict = generous.with_policy(Policy::new().explicit_only());
    let handler =
        async |house: &House, _| HttpResponse::Ok().body(format!("run {}", house.run().await));
    let servers = [generous, strict].map(|cache| house.open(1, shared(cache), handler));
    let clients = servers.each_ref().map(|server| Client::new(server.addr, Protocol::Http1));
    let host = [("host", "t")];
    let both = async {
        let (one, other) = (&clients[0], &clients[1]);
        futures_util::join!(one.get_with("/", &host), async {
            eventually("one asks", || house.runs.get() == 1).await;
            other.get_with("/", &host).await
        })
    };
    let door = async {
        eventually("both have come", || house.arrived.get() == 2).await;
        house.gate.add_permits(2);
    };
    let ((one, other), ()) = futures_util::join!(both, door);
    assert_eq!((one.text(), one.is_stored()), ("run 1", true));
    assert_eq!(other.text(), "run 2");
    assert!(other.cache_status().ends_with("detail=no-lifetime"), "{}", other.cache_status());
}
