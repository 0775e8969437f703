//! Entries that are purged, evicted or no longer kept while the handler revalidates them.

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, ManualClock, Policy};
use hyper::Method;

use crate::support::{
    Client, HoldPoint, HookedStore, Protocol, START, SharedLines, conditions, secs, serve,
};

/// The end of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    PurgeByUrl,
    PurgeByTag,
    PurgeOfAll,
    UnsafeMethod,
    Expiry,
    Eviction,
    /// The end of the time for which stale responses are kept.
    Retention,
}

impl End {
    const ALL: [Self; 7] = [
        Self::PurgeByUrl,
        Self::PurgeByTag,
        Self::PurgeOfAll,
        Self::UnsafeMethod,
        Self::Expiry,
        Self::Eviction,
        Self::Retention,
    ];
}

/// The client did not ask for a 304, so it never gets one. The handler gets either the conditions of
/// the cache or none.
#[actix_web::test]
async fn revalidation_of_an_entry_that_ends_meanwhile_gives_a_complete_response() {
    for end in End::ALL {
        for (method, fields, status, body) in [
            (Method::GET, &[][..], 200, "page"),
            (Method::GET, &[("if-none-match", "\"z\"")], 200, "page"),
            (Method::GET, &[("if-none-match", "\"a\"")], 304, ""),
            (Method::GET, &[("range", "bytes=1-2")], 206, "ag"),
            (Method::GET, &[("range", "bytes=1-2"), ("if-range", "\"z\"")], 200, "page"),
            (Method::HEAD, &[], 200, ""),
        ] {
            let case = format!("{end:?} during {method} {fields:?}");
            let (store, clock) = (HookedStore::new(), ManualClock::at(START));
            let builder = Cache::builder(store.clone()).clock(clock.clock());
            let policy = Policy::new().tag("all").keep_stale(secs(100));
            let cache = builder.policy(policy).build().unwrap();
            let (hold, recorded) = (HoldPoint::new(), SharedLines::default());
            let shared = (cache.clone(), hold.clone(), recorded.clone());
            let server = serve(1, move || {
                let (cache, hold, recorded) = shared.clone();
                let page = move |request: HttpRequest| {
                    let hold = hold.clone();
                    let conditions = conditions(&request);
                    recorded.add(conditions.clone());
                    async move {
                        if request.headers().contains_key("hold") {
                            hold.wait().await;
                        }
                        let is_known = conditions.contains("if-none-match: \"a\"");
                        let mut response =
                            if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
                        response.insert_header(("etag", "\"a\""));
                        if is_known { response.finish() } else { response.body("page") }
                    }
                };
                let changed = || async { HttpResponse::NoContent().finish() };
                App::new()
                    .wrap(cache)
                    .route("/", web::put().to(changed))
                    .default_service(web::to(page))
            });
            let client = Client::new(server.addr, Protocol::Http1);
            assert!(client.get("/").await.is_stored(), "{case}");
            store.put_completed().await;
            clock.advance(secs(61));
            recorded.take();
            let revalidating = client.clone();
            let fields = [fields, &[("hold", "1")]].concat();
            let sent = method.clone();
            let answer = tokio::spawn(async move { revalidating.send(sent, "/", &fields).await });
            hold.reached().await;
            let url = format!("http://{}/", server.addr);
            let handle = cache.handle();
            match end {
                End::PurgeByUrl => drop(handle.purge_url(url).await.unwrap()),
                End::PurgeByTag => drop(handle.purge_tag("all").await.unwrap()),
                End::PurgeOfAll => drop(handle.purge_all().await.unwrap()),
                End::UnsafeMethod => {
                    assert_eq!(client.send(Method::PUT, "/", &[]).await.status, 204);
                }
                End::Expiry => drop(handle.expire_url(url).await.unwrap()),
                End::Eviction => store.evict_all().await,
                End::Retention => clock.advance(secs(1000)),
            }
            // A second call of the handler passes at once.
            hold.release();
            hold.release();
            let answer = answer.await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.text()), (status, body), "{case}");
            for conditions in recorded.take() {
                let own = ["if-none-match: \"a\"", ""].contains(&&*conditions);
                assert!(own || method == Method::HEAD, "{case}: {conditions}");
            }
            let next = client.get("/").await;
            assert_eq!((next.status.as_u16(), next.text()), (200, "page"), "{case}");
        }
    }
}
