//! Asking once in a fleet: what each answer of the store, and each end of a run, comes to. The fleet
//! is a double; that it goes the same way with Redis is in `fleet`.

use std::{future::pending, io, time::Duration};

use actix_web::{HttpRequest, HttpResponse, body::SizedStream};
use actix_web_cache::{
    Cache, CacheBuilder, ManualClock, Policy,
    store::{LeaseEnd, Store as _},
};
use bytes::Bytes;
use futures_util::{future::join_all, join, stream};

use crate::support::{
    CLIENTS, Client, Fleet, House, Protocol, START, Says, Server, eventually, feeds, secs,
};

/// Several addresses, one host.
const SHOP: (&str, &str) = ("host", "shop");

fn member(fleet: &Fleet, policy: Policy) -> CacheBuilder {
    Cache::builder(fleet.member()).policy(policy)
}

fn open(
    house: &House,
    cache: CacheBuilder,
    handler: impl AsyncFn(&House, HttpRequest) -> HttpResponse + Clone + Send + 'static,
) -> Server {
    let cache = cache.build().unwrap();
    house.open(2, move || cache.clone(), handler)
}

async fn ask(server: &Server, path: &str) -> crate::support::Answer {
    Client::new(server.addr, Protocol::Http1).get_with(path, &[SHOP]).await
}

fn broken() -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> {
    stream::iter([Ok(Bytes::from_static(b"page")), Err(io::Error::other("as it was told"))])
}

async fn answers(request: &HttpRequest) -> HttpResponse {
    let chunks = || stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"page"))]);
    let mut ok = HttpResponse::Ok();
    match request.path() {
        "/whole" => ok.body("page"),
        "/declared" => ok.body(SizedStream::new(4, chunks())),
        "/undeclared" => ok.streaming(chunks()),
        "/private" => ok.insert_header(("cache-control", "private")).body("page"),
        "/events" => ok.content_type("text/event-stream").streaming(chunks()),
        "/large" => ok.body("x".repeat(2000)),
        "/larger-than-it-knew" => ok.streaming(stream::iter(
            ["x"; 40].map(|x| Ok::<_, io::Error>(Bytes::from(x.repeat(100)))),
        )),
        "/fails" => HttpResponse::ServiceUnavailable().body("page"),
        "/breaks-off" => ok.body(SizedStream::new(8, broken())),
        "/panics" => panic!("as a handler may"),
        _ => HttpResponse::NotFound().finish(),
    }
}

#[actix_web::test]
async fn a_lease_is_given_up_when_it_is_known_what_came_of_it() {
    use LeaseEnd::{Abandoned, Stored, Unstorable};
    let (house, fleet) = (House::new(), Fleet::default());
    let cache = member(&fleet, Policy::new().max_body_size(1000));
    let server = open(&house, cache, async |_, request| answers(&request).await);
    for (path, want) in [
        ("/whole", Stored),
        ("/declared", Stored),
        ("/undeclared", Stored),
        ("/private", Unstorable),
        ("/events", Unstorable),
        ("/large", Unstorable),
        ("/larger-than-it-knew", Unstorable),
        ("/fails", Abandoned),
        ("/breaks-off", Abandoned),
        ("/panics", Abandoned),
    ] {
        let client = Client::new(server.addr, Protocol::Http1);
        let answer = client.send_body(hyper::Method::GET, path, &[SHOP], "").await;
        assert_eq!(answer.is_ok(), !["/breaks-off", "/panics"].contains(&path), "{path}");
        eventually(path, || fleet.ended() > 0).await;
        assert_eq!((fleet.ends(), fleet.held()), (vec![want], 0), "{path}");
    }
}

#[actix_web::test]
async fn what_was_purged_meanwhile_frees_its_lease() {
    let (house, fleet) = (House::new(), Fleet::default());
    let cache = member(&fleet, Policy::new()).build().unwrap();
    let (handle, shared) = (cache.handle(), move || cache.clone());
    let server = house.open(1, shared, async |house, _| {
        house.run().await;
        HttpResponse::Ok().body("page")
    });
    let purge = async {
        eventually("it runs", || house.runs.get() == 1).await;
        handle.purge_url("http://shop/").await.unwrap();
        house.gate.add_permits(1);
    };
    join!(ask(&server, "/"), purge);
    eventually("its end", || fleet.ended() > 0).await;
    assert_eq!(fleet.ends(), [LeaseEnd::Abandoned]);
}

#[actix_web::test]
async fn a_store_that_cannot_lend_is_no_reason_to_wait() {
    for says in [Says::Unneeded, Says::Fails, Says::Panics, Says::Hangs] {
        let (house, fleet) = (House::new(), Fleet::default());
        let server = open(&house, member(&fleet, Policy::new()), async |house, _| {
            house.run().await;
            HttpResponse::Ok().body("page")
        });
        fleet.say(says);
        let answers = house.rush_at(&[&server], Protocol::Http1, &[&[SHOP]]).await;
        assert!(answers.iter().all(|answer| answer.text() == "page"), "{says:?}");
        assert_eq!((house.runs.get(), fleet.asked()), (1, 0), "{says:?}");
        assert_eq!(fleet.ends(), [], "{says:?}");
    }
}

#[actix_web::test]
async fn a_store_without_leases_is_not_asked_for_them() {
    let (house, fleet) = (House::new(), Fleet::default());
    let server = open(&house, Cache::builder(fleet.member().alone()), async |_, _| {
        HttpResponse::Ok().body("page")
    });
    assert!(ask(&server, "/").await.is_stored());
    assert_eq!(fleet.asked(), 0);
}

#[actix_web::test]
async fn who_is_granted_the_lease_finds_what_was_stored_just_before() {
    let (house, fleet) = (House::new(), Fleet::default());
    let handler = async |house: &House, _| {
        house.run().await;
        HttpResponse::Ok().body("page")
    };
    let first = open(&house, Cache::builder(fleet.member().alone()), handler);
    let second = open(&house, member(&fleet, Policy::new()), handler);
    // The second has found nothing, and is told to wait while the first stores.
    for _ in 0..3 {
        fleet.say(Says::Taken);
    }
    let store = async {
        eventually("the second waits", || fleet.taken() > 0).await;
        house.gate.add_permits(1);
        ask(&first, "/").await
    };
    let (waited, stored) = join!(ask(&second, "/"), store);
    assert!(stored.is_stored());
    assert_eq!(waited.cache_status(), "fwd=uri-miss; collapsed");
    assert_eq!(house.runs.get(), 1);
}

#[actix_web::test]
async fn what_the_holder_leaves_undone_another_does() {
    for dies in [true, false] {
        let (house, fleet) = (House::new(), Fleet::default());
        let handler = async move |house: &House, _| {
            let run = house.runs.count();
            if run > 1 {
                return HttpResponse::Ok().body("page");
            }
            eventually("all have come", || house.arrived.get() == CLIENTS + 1).await;
            assert!(!dies, "the first dies, and its connection with it");
            pending().await
        };
        let servers = [0, 1, 2].map(|_| open(&house, member(&fleet, Policy::new()), handler));
        let [first, second, third] = &servers;
        let first = Client::new(first.addr, Protocol::Http1);
        let first = actix_web::rt::spawn(async move {
            first.send_body(hyper::Method::GET, "/", &[SHOP], "").await.is_err()
        });
        eventually("the first runs", || house.runs.get() == 1).await;
        let both = [second, third];
        let end = async {
            eventually("both wait", || fleet.taken() >= 2).await;
            if !dies {
                fleet.expire();
            }
        };
        let answers = join!(house.rush_at(&both, Protocol::Http1, &[&[SHOP]]), end).0;
        assert!(answers.iter().all(|answer| answer.text() == "page"));
        assert_eq!(house.runs.get(), 2, "dies: {dies}");
        if dies {
            assert!(first.await.unwrap());
        } else {
            first.abort();
        }
    }
}

#[actix_web::test]
async fn where_the_lease_does_not_end_each_process_asks_for_itself() {
    let (house, fleet) = (House::new(), Fleet::default());
    let policy = || Policy::new().wait_limit(secs(2));
    let handler = async |house: &House, _| {
        if house.runs.count() == 1 {
            return pending().await;
        }
        HttpResponse::Ok().body("page")
    };
    let [first, second] = [0, 1].map(|_| open(&house, member(&fleet, policy()), handler));
    let hangs = actix_web::rt::spawn(async move { ask(&first, "/").await });
    eventually("the first runs", || house.runs.get() == 1).await;
    let answers = house.rush_at(&[&second], Protocol::Http1, &[&[SHOP]]).await;
    assert!(answers.iter().all(|answer| answer.text() == "page"));
    assert_eq!(house.runs.get(), 2, "those who waited for it in its process have its answer");
    assert_eq!(fleet.held(), 1);
    hangs.abort();
}

#[actix_web::test]
async fn a_streamed_page_is_the_others_when_it_is_stored() {
    for length in [None, Some(11)] {
        let (house, fleet, (feeds, mut feed)) = (House::new(), Fleet::default(), feeds());
        let handler = async move |house: &House, _| {
            house.runs.count();
            feeds.response(length)
        };
        let [first, second] =
            [0, 1].map(|_| open(&house, member(&fleet, Policy::new()), handler.clone()));
        let both = [&first, &second];
        let body = async {
            let feed = feed.recv().await.unwrap();
            eventually("all have come", || house.arrived.get() == CLIENTS).await;
            eventually("the others wait", || fleet.taken() > 0).await;
            assert!(feed.send("first, ").await && feed.send("last").await);
        };
        let (answers, ()) = join!(house.rush_at(&both, Protocol::Http1, &[&[SHOP]]), body);
        assert!(answers.iter().all(|answer| answer.text() == "first, last"), "{length:?}");
        assert_eq!(house.runs.get(), 1, "{length:?}");
        // Who is lent it after the first finds the page.
        let ends = fleet.ends();
        assert!([1, 2].contains(&ends.len()), "once for each process at most: {ends:?}");
        assert!(ends.iter().all(|end| *end == LeaseEnd::Stored), "{ends:?}");
    }
}

#[actix_web::test]
async fn something_stale_stands_in_for_a_process_that_takes_too_long() {
    let (house, fleet, clock) = (House::new(), Fleet::default(), ManualClock::at(START));
    let policy = Policy::new().stale_if_error(secs(600)).wait_limit(Duration::from_millis(200));
    let handler = async |house: &House, _| {
        if house.runs.count() > 1 {
            return pending().await;
        }
        HttpResponse::Ok().body("page")
    };
    let cache = || member(&fleet, policy.clone()).clock(clock.clock());
    let [first, second] = [0, 1].map(|_| open(&house, cache(), handler));
    assert!(ask(&first, "/").await.is_stored());
    clock.advance(secs(65));
    let hangs = actix_web::rt::spawn(async move { ask(&first, "/").await });
    eventually("the first runs", || house.runs.get() == 2).await;
    let answers = join_all((0..10).map(|_| ask(&second, "/"))).await;
    for answer in answers {
        assert_eq!(answer.text(), "page");
        assert_eq!(answer.cache_status(), "fwd=stale; detail=stale-if-error");
    }
    assert_eq!(house.runs.get(), 2);
    hangs.abort();
}

#[actix_web::test]
async fn nothing_is_renewed_that_could_not_be_stored() {
    let (house, fleet, clock) = (House::new(), Fleet::default(), ManualClock::at(START));
    let policy = Policy::new().stale_while_revalidate(secs(600));
    let store = fleet.member();
    let cache = Cache::builder(store.clone()).policy(policy).clock(clock.clock());
    let server = open(&house, cache, async |house, _| {
        house.runs.count();
        HttpResponse::Ok().body("page")
    });
    assert!(ask(&server, "/").await.is_stored());
    eventually("it is stored", || fleet.ended() > 0).await;
    clock.advance(secs(65));
    fleet.say(Says::Breaks);
    assert_eq!(ask(&server, "/").await.cache_status(), "hit; ttl=-5");
    eventually("it is to be renewed", || fleet.said()).await;
    eventually("that is over", || store.coordinator().open_refreshes() == 0).await;
    assert_eq!(house.runs.get(), 1);
}
