//! Problems that make a cache useless without an error are counted, and logged with the route.

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, ManualClock, Policy, store::Store};
use log::Level;

use crate::support::{CapturedLog, Client, Protocol, START, Server, secs, serve, store};

struct Site {
    client: Client,
    cache: Cache,
    clock: ManualClock,
    store: actix_web_cache::MemoryStore,
    log: CapturedLog,
    _server: Server,
}

/// Serves `/pages/{id}` with stale pages for an hour. The handler fails if the request for the
/// first fill of a page has `x-fail`.
fn site() -> Site {
    site_with(Policy::new().stale_while_revalidate(secs(3600)))
}

fn site_with(policy: Policy) -> Site {
    let (store, clock) = (store(), ManualClock::at(START));
    let cache = Cache::builder(store.clone()).policy(policy).clock(clock.clock()).build().unwrap();
    let log = CapturedLog::default();
    let (wrapped, here) = (cache.clone(), log.clone());
    let server = serve(1, move || {
        here.capture();
        let page = |request: HttpRequest| async move {
            if request.headers().contains_key("x-fail") {
                return HttpResponse::InternalServerError().finish();
            }
            HttpResponse::Ok()
                .insert_header(("cache-control", "public, max-age=10, stale-while-revalidate=3600"))
                .insert_header(("vary", "x-device"))
                .body("page")
        };
        App::new().wrap(wrapped.clone()).route("/pages/{id}", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    Site { client, cache, clock, store, log, _server: server }
}

#[actix_web::test]
async fn page_of_which_each_request_needs_another_variant_is_reported_once_with_its_route() {
    let site = site();
    for n in 0..200 {
        let device = n.to_string();
        site.client.get_with("/pages/secret", &[("x-device", &device)]).await;
    }
    let warnings = site.log.take(Level::Warn);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in ["`/pages/{id}`", "`x-device`", "vary_languages"] {
        assert!(warnings[0].contains(part), "{part} in {warnings:?}");
    }
    assert_eq!(site.store.coordinator().problems().other_variants, 199);
    // Many pages with a few variants are no problem.
    for n in 0..200 {
        for device in ["a", "b", "a", "b"] {
            site.client.get_with(&format!("/pages/{n}"), &[("x-device", device)]).await;
        }
    }
    assert!(site.log.take(Level::Warn).is_empty());
}

#[actix_web::test]
async fn refreshes_that_keep_failing_are_reported_with_the_route() {
    let site = site();
    site.client.get("/pages/secret").await;
    let mut warnings = Vec::new();
    for n in 1..=5 {
        // The back-off after a failed refresh is at most a minute.
        site.clock.advance(secs(61));
        assert!(site.client.get_with("/pages/secret", &[("x-fail", "1")]).await.is_hit());
        site.cache.idle().await;
        assert_eq!(site.store.coordinator().problems().failed_refreshes, n);
        warnings.extend(site.log.take(Level::Warn));
        assert_eq!(warnings.len(), usize::from(n == 5), "{warnings:?}");
    }
    assert!(
        warnings[0].contains("`/pages/{id}`") && !warnings[0].contains("secret"),
        "{warnings:?}"
    );
    // A refresh that succeeds ends the row.
    for fails in [true, true, true, true, false, true, true, true, true] {
        site.clock.advance(secs(61));
        let fields: &[(&str, &str)] = if fails { &[("x-fail", "1")] } else { &[] };
        site.client.get_with("/pages/secret", fields).await;
        site.cache.idle().await;
    }
    assert!(site.log.take(Level::Warn).is_empty());
}

#[actix_web::test]
async fn fresh_page_whose_request_may_not_refresh_it_ahead_is_no_problem() {
    let site = site_with(Policy::new().refresh_ahead(90));
    site.client.get("/pages/secret").await;
    site.clock.advance(secs(5));
    for _ in 0..40 {
        let fields = [("cookie", "session=1")];
        assert!(site.client.get_with("/pages/secret", &fields).await.is_hit());
    }
    assert_eq!(site.store.coordinator().problems().refused_refreshes, 0);
    assert!(site.log.take(Level::Warn).is_empty());
}

#[actix_web::test]
async fn page_that_no_request_may_refresh_is_reported_with_the_route() {
    let site = site();
    site.client.get("/pages/secret").await;
    site.clock.advance(secs(11));
    let cookie = [("cookie", "session=1")];
    for n in 1..=20 {
        let stale = site.client.get_with("/pages/secret", &cookie).await;
        assert!(stale.is_hit(), "{}", stale.cache_status());
        let warnings = site.log.take(Level::Warn);
        assert_eq!(warnings.len(), usize::from(n == 20), "{warnings:?}");
        for part in ["`/pages/{id}`", "ignore_cookies"] {
            assert!(warnings.iter().all(|line| line.contains(part)), "{part} in {warnings:?}");
        }
    }
    assert_eq!(site.store.coordinator().problems().refused_refreshes, 20);
    // A request without cookies now and then is enough.
    site.clock.advance(secs(61));
    for n in 0..60 {
        let fields = if n % 10 == 9 { &[][..] } else { &cookie };
        site.client.get_with("/pages/secret", fields).await;
        site.cache.idle().await;
        site.clock.advance(secs(11));
    }
    assert!(site.log.take(Level::Warn).is_empty());
}
