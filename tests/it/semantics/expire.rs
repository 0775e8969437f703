//! Expiry (soft purge): an expired entry is stale at once and stays in the store.

use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, CacheHandle, ManualClock, Policy, PurgeTarget, store::Store as _};
use hyper::Method;

use crate::support::{
    Client, Counter, HoldPoint, Protocol, SETUPS, START, Server, secs, serve, store, wait_until,
};

/// An application that responds with the number of its handler run. Request fields choose the
/// status and fields of the response, and `POST /expire` expires `/page`.
struct Site {
    server: Server,
    client: Client,
    handle: CacheHandle,
    store: actix_web_cache::MemoryStore,
    clock: ManualClock,
    /// Handler runs whose request has the field `waits` wait here.
    hold: HoldPoint,
}

impl Site {
    fn new(policy: Policy, protocol: Protocol, workers: usize) -> Self {
        let (store, clock, hold) = (store(), ManualClock::at(START), HoldPoint::new());
        let builder = Cache::builder(store.clone()).clock(clock.clock()).policy(policy.tag("all"));
        let cache = builder.build().unwrap();
        let (app, runs, handler_stop) = (cache.clone(), Counter::default(), hold.clone());
        let server = serve(workers, move || {
            let (runs, hold) = (runs.clone(), handler_stop.clone());
            let handler = move |request: HttpRequest| {
                let (run, hold) = (runs.count(), hold.clone());
                async move {
                    let has = |name: &str| request.headers().contains_key(name);
                    if has("waits") {
                        hold.wait().await;
                    }
                    if has("fails") {
                        return HttpResponse::ServiceUnavailable().finish();
                    }
                    if has("if-none-match") {
                        return HttpResponse::NotModified().finish();
                    }
                    let mut response = HttpResponse::Ok();
                    response.insert_header(("cache-groups", "\"g\""));
                    if has("tagged") {
                        response.insert_header(("etag", "\"a\""));
                    }
                    if let Some(value) = request.headers().get("set-cache-control") {
                        response.insert_header(("cache-control", value));
                    }
                    response.body(format!("run {run}"))
                }
            };
            let expire =
                |cache: CacheHandle| async move { cache.expire_url("/page").await.map(|_| "") };
            App::new()
                .wrap(app.clone())
                .route("/expire", web::post().to(expire))
                .default_service(web::to(handler))
        });
        let client = Client::new(server.addr, protocol);
        Self { server, client, handle: cache.handle(), store, clock, hold }
    }

    /// Every kind of target that covers `/page`.
    fn targets(&self) -> [PurgeTarget; 7] {
        let host = self.server.addr.to_string();
        [
            PurgeTarget::url("/page").on_host(&host),
            PurgeTarget::url("/page").on_host(&host).variant([]),
            PurgeTarget::url("/page").on_any_host(),
            PurgeTarget::tag("all"),
            PurgeTarget::group("g").on_host(&host),
            PurgeTarget::prefix("/").on_host(&host),
            PurgeTarget::all(),
        ]
    }

    /// Waits until no fill and no refresh is open.
    async fn idle(&self) {
        let coordinator = self.store.coordinator();
        wait_until("all fills and refreshes ended", || {
            coordinator.open_refreshes() == 0 && coordinator.open_fills() == 0
        })
        .await;
    }

    /// Requests `/page`, and returns its `Cache-Status` and its body.
    async fn get(&self, fields: &[(&str, &str)]) -> (String, String) {
        let answer = self.client.get_with("/page", fields).await;
        let status = answer.cache_status();
        self.idle().await;
        (status, answer.text().to_owned())
    }
}

/// The result of [`Site::get`].
fn answer(status: &str, text: &str) -> (String, String) {
    (status.to_owned(), text.to_owned())
}

#[actix_web::test]
async fn expired_entry_is_served_once_and_refreshed_in_the_background() {
    for (protocol, workers) in SETUPS {
        let site = Site::new(Policy::new().stale_while_revalidate(secs(30)), protocol, workers);
        for (round, target) in (1..).zip(site.targets()) {
            let (old, new) = (format!("run {}", 2 * round - 1), format!("run {}", 2 * round));
            site.get(&[]).await;
            site.clock.advance(secs(10));
            assert_eq!(site.get(&[]).await, answer("hit; ttl=50", &old), "{target:?}");
            site.handle.expire(target.clone()).await.unwrap();
            site.clock.advance(secs(29));
            assert_eq!(site.get(&[]).await, answer("hit; ttl=-29", &old), "{target:?}");
            assert_eq!(site.get(&[]).await, answer("hit; ttl=60", &new), "{target:?}");
            site.handle.purge_all().await.unwrap();
        }
        site.get(&[]).await;
        assert_eq!(site.client.send(Method::POST, "/expire", &[]).await.status, 200);
        assert!(site.get(&[]).await.0.starts_with("hit; ttl=-0"), "expired by a handler");
    }
}

#[actix_web::test]
async fn expired_entry_is_not_served_when_stale_responses_are_forbidden() {
    let strict = ("set-cache-control", "max-age=60, must-revalidate");
    let tagged = ("tagged", "1");
    for (case, window, fields, elapsed, want) in [
        ("a validator", 0, &[tagged][..], 0, "fwd=stale; fwd-status=304; stored"),
        ("no validator", 0, &[], 0, "fwd=stale; stored"),
        ("within the window", 30, &[tagged], 29, "hit; ttl=-29"),
        ("after the window", 30, &[tagged], 30, "fwd=stale; fwd-status=304; stored"),
        ("must-revalidate", 30, &[tagged, strict], 0, "fwd=stale; fwd-status=304; stored"),
    ] {
        let policy = Policy::new().stale_while_revalidate(secs(window));
        let site = Site::new(policy, Protocol::Http1, 1);
        for target in site.targets() {
            site.get(fields).await;
            site.handle.expire(target.clone()).await.unwrap();
            site.clock.advance(secs(elapsed));
            assert_eq!(site.get(fields).await.0, want, "{case}: {target:?}");
            assert!(site.get(fields).await.0.starts_with("hit; ttl=60"), "{case}: {target:?}");
            site.handle.purge_all().await.unwrap();
        }
    }
}

#[actix_web::test]
async fn fill_begun_before_an_expiry_is_stored_stale() {
    for index in 0..7 {
        let policy = Policy::new().stale_while_revalidate(secs(30));
        let site = Site::new(policy, Protocol::Http1, 2);
        let target = site.targets()[index].clone();
        let client = site.client.clone();
        let slow = tokio::spawn(async move { client.get_with("/page", &[("waits", "1")]).await });
        site.hold.reached().await;
        site.handle.expire(target.clone()).await.unwrap();
        site.clock.advance(secs(5));
        site.hold.release();
        assert!(slow.await.unwrap().is_stored(), "{target:?}");
        site.idle().await;
        assert_eq!(site.get(&[]).await, answer("hit; ttl=-0", "run 1"), "{target:?}");
        assert_eq!(site.get(&[]).await, answer("hit; ttl=60", "run 2"), "{target:?}");
    }
}

#[actix_web::test]
async fn expired_entry_replaces_an_error_within_stale_if_error() {
    let policy = Policy::new().stale_if_error(Duration::from_secs(20));
    let site = Site::new(policy, Protocol::Http1, 1);
    let fields = [("tagged", "1")];
    site.get(&fields).await;
    site.clock.advance(secs(10));
    site.handle.expire_tag("all").await.unwrap();
    for (seconds, status) in [(0, 200), (19, 200), (1, 503)] {
        site.clock.advance(secs(seconds));
        let answer = site.client.get_with("/page", &[("fails", "1")]).await;
        assert_eq!(answer.status, status, "after {seconds} more seconds");
    }
    site.handle.purge_all().await.unwrap();
    site.get(&fields).await;
    site.handle.expire_tag("all").await.unwrap();
    site.handle.purge_tag("all").await.unwrap();
    let answer = site.client.get_with("/page", &[("fails", "1")]).await;
    assert_eq!(answer.status, 503, "a purged entry never replaces an error");
}
