//! `CacheHandle`: what is purged by which URL, and what is said where that cannot be.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    thread,
};

use actix_web::{App, HttpRequest, HttpResponse, ResponseError as _, http::StatusCode, web};
use actix_web_cache::{
    Cache, CacheHandle, CacheNotConfigured, ManualClock, Mode, Policy, PurgeError, Purged,
    QueryKey, Rule,
};
use hyper::Method;

use crate::support::{
    Client, Counter, Protocol, SETUPS, START, Server, Watched, builder, cache, serve, store, who,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// One name for a server, whatever its port.
const SHOP: (&str, &str) = ("host", "shop.example");

/// Pages everywhere, selected by `X-Lang`; `POST /purge` purges the URL in `X-Url`, or all.
fn serve_purging(workers: usize, cache: &Cache) -> (Server, Counter) {
    let (cache, runs) = (cache.clone(), Counter::default());
    let counter = runs.clone();
    let server = serve(workers, move || {
        let runs = counter.clone();
        let page = move |request: HttpRequest| {
            let run = runs.count();
            async move {
                HttpResponse::Ok()
                    .insert_header(("vary", "x-lang"))
                    .body(format!("run {run} for {}", who(&request)))
            }
        };
        App::new()
            .wrap(cache.clone())
            .route("/purge", web::post().to(purge))
            .default_service(web::get().to(page))
    });
    (server, runs)
}

/// How many responses were forgotten.
async fn purge(request: HttpRequest, cache: CacheHandle) -> Result<String, PurgeError> {
    match request.headers().get("x-url").map(|url| url.to_str().unwrap()) {
        Some(url) => Ok(cache.purge_url(url).await?.responses.to_string()),
        None => cache.purge_all().await.map(|_| "all".to_owned()),
    }
}

#[actix_web::test]
async fn a_purge_forgets_all_variants_of_a_url_and_nothing_else() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, runs) = serve_purging(workers, &cache);
        let client = Client::new(server.addr, protocol);
        let variants: [Fields<'_>; 3] = [&[("x-lang", "de")], &[("x-lang", "fr")], &[]];
        for fields in variants {
            assert!(client.get_with("/page", fields).await.is_stored());
        }
        for path in ["/page?", "/page?a=1", "/page/", "/Page", "/pag%65", "//page", "/"] {
            assert!(client.get(path).await.is_stored(), "{path}");
        }
        let purged = client.send(Method::POST, "/purge", &[("x-url", "/page")]).await;
        assert_eq!((purged.status.as_u16(), purged.text()), (200, "3"), "{protocol:?}");
        let ran = runs.get();
        for fields in variants {
            let head = client.send(Method::HEAD, "/page", fields).await;
            assert!(!head.is_hit(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_stored(), "{fields:?} {protocol:?}");
        }
        assert_eq!(runs.get() - ran, 6);
        for path in ["/page?", "/page?a=1", "/page/", "/Page", "/pag%65", "//page", "/"] {
            assert!(client.get(path).await.is_hit(), "{path} {protocol:?}");
        }
        let again = client.send(Method::POST, "/purge", &[("x-url", "/none")]).await;
        assert_eq!(again.text(), "0");
    }
}

#[actix_web::test]
async fn a_relative_url_means_the_host_of_the_request() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(2, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    let hosts = ["shop.example", "shop.example:81", "other.example"];
    for host in hosts {
        assert!(client.get_with("/page", &[("host", host)]).await.is_stored());
    }
    let url = ("x-url", "/page");
    assert_eq!(client.send(Method::POST, "/purge", &[SHOP, url]).await.text(), "1");
    for (host, hit) in hosts.into_iter().zip([false, true, true]) {
        assert_eq!(client.get_with("/page", &[("host", host)]).await.is_hit(), hit, "{host}");
    }
    // A proxy's word for the host does not choose whose pages are purged.
    for field in [("x-forwarded-host", "other.example"), ("forwarded", "host=other.example")] {
        assert_eq!(client.send(Method::POST, "/purge", &[SHOP, url, field]).await.text(), "1");
        assert!(client.get_with("/page", &[("host", "other.example")]).await.is_hit());
        assert!(client.get_with("/page", &[SHOP]).await.is_stored());
    }
}

#[actix_web::test]
async fn a_full_url_means_its_host_by_http_and_https_alike() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(1, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    let handle = cache.handle();
    let page = "/page?a=1";
    for (url, purged) in [
        ("http://shop.example/page?a=1", true),
        ("https://shop.example/page?a=1", true),
        ("HTTPS://Shop.EXAMPLE/page?a=1", true),
        ("http://shop.example:80/page?a=1", true),
        ("https://shop.example:443/page?a=1", true),
        ("https://admin:secret@shop.example/page?a=1", true),
        ("https://shop.example/page?a=1#part", true),
        ("https://shop.example:444/page?a=1", false),
        ("https://shop.example/page?a=2", false),
        ("https://shop.example/page?a=1&", false),
        ("https://shop.example/page?", false),
        ("https://shop.example/page", false),
        ("https://shop.example/%70age?a=1", false),
        ("https://www.shop.example/page?a=1", false),
        ("https://shop.example.evil/page?a=1", false),
        ("https://evil/shop.example/page?a=1", false),
    ] {
        client.get_with(page, &[SHOP]).await;
        let before = client.get_with(page, &[SHOP]).await;
        assert!(before.is_hit(), "{url}");
        assert_eq!(handle.purge_url(url).await.unwrap().responses, usize::from(purged), "{url}");
        assert_eq!(!client.get_with(page, &[SHOP]).await.is_hit(), purged, "{url}");
    }
    // Whichever default port the pages were asked with.
    let port = ("host", "shop.example:443");
    assert!(client.get_with(page, &[port]).await.is_stored());
    assert_eq!(handle.purge_url("http://shop.example:443/page?a=1").await.unwrap().responses, 1);
    assert!(client.get_with(page, &[port]).await.is_stored());
}

#[actix_web::test]
async fn a_handler_purges_pages_of_another_host_by_their_full_url() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(1, &cache);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = Client::new(server.addr, protocol);
        let own = format!("http://{}/page", server.addr);
        for (url, fields) in [(own.as_str(), &[][..]), ("https://shop.example/page", &[SHOP])] {
            if protocol == Protocol::Http2 && !fields.is_empty() {
                continue;
            }
            assert!(client.get_with("/page", fields).await.is_stored(), "{url} {protocol:?}");
            let purged = client.send(Method::POST, "/purge", &[("x-url", url)]).await;
            assert_eq!(purged.text(), "1", "{url} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_stored(), "{url} {protocol:?}");
            assert_eq!(client.send(Method::POST, "/purge", &[("x-url", url)]).await.text(), "1");
        }
    }
}

#[actix_web::test]
async fn a_url_is_purged_for_all_tenants_cookies_and_languages() {
    for (protocol, workers) in SETUPS {
        let policy = Policy::new()
            .key_header("x-tenant")
            .vary_cookie("theme")
            .key_with("beta", |request| request.headers().get("x-beta").map(|_| String::new()));
        let cache = builder().0.policy(policy).build().unwrap();
        let (server, _) = serve_purging(workers, &cache);
        let client = Client::new(server.addr, protocol);
        let readers: [Fields<'_>; 6] = [
            &[],
            &[("x-tenant", "acme")],
            &[("x-tenant", "acme"), ("cookie", "theme=dark")],
            &[("cookie", "theme=dark; theme=light"), ("cache-control", "x")],
            &[("x-beta", "1"), ("x-lang", "de")],
            &[("x-tenant", "acme"), ("x-tenant", "b")],
        ];
        // A cookie sent twice is nobody's in particular, yet no plain value either.
        for fields in readers {
            assert!(client.get_with("/page", fields).await.is_stored(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/other", fields).await.is_stored());
        }
        client.send(Method::POST, "/purge", &[("x-url", "/page")]).await;
        for fields in readers {
            assert!(client.get_with("/other", fields).await.is_hit(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_stored(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_hit(), "made anew: {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn a_url_is_purged_as_queries_are_normalised() {
    let cache = builder()
        .0
        .policy(Policy::new().query(QueryKey::sorted()))
        .rule(
            Rule::path("/perhaps")
                .when(|request| request.headers().contains_key("x-q"))
                .query(QueryKey::only(["q"])),
        )
        .rule(Rule::pattern("/search/{kind}").query(QueryKey::only(["q"])))
        .rule(Rule::prefix("/news").query(QueryKey::ignoring(["utm_*"])))
        .build()
        .unwrap();
    let (server, _) = serve_purging(1, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    for (asked, fields, purged) in [
        ("/page?b=1&a=2", &[][..], "/page?a=2&b=1"),
        ("/page", &[], "/page"),
        ("/search/all?q=x&page=2", &[], "/search/all?q=x"),
        ("/search/all?page=2", &[], "/search/all"),
        ("/se%61rch/all?q=x&page=2", &[], "/se%61rch/all?page=9&q=x"),
        ("/news/1?utm_source=a&id=1", &[], "/news/1?id=1&utm_medium=b"),
        ("/perhaps?q=1&b=2&a=3", &[], "/perhaps?a=3&q=1&b=2"),
        ("/perhaps?q=1&b=2&a=3", &[("x-q", "1")], "/perhaps?q=1"),
    ] {
        assert!(client.get_with(asked, fields).await.is_stored(), "{asked}");
        let answer = client.send(Method::POST, "/purge", &[("x-url", purged)]).await;
        assert_eq!(answer.text(), "1", "{asked} by {purged}");
        assert!(client.get_with(asked, fields).await.is_stored(), "{asked} by {purged}");
    }
    assert_eq!(
        client.send(Method::POST, "/purge", &[("x-url", "/page?a=2&b=2")]).await.text(),
        "0"
    );
}

/// Several applications over one store, by the name of their host.
fn serve_over_one_store(caches: &[Cache]) -> Vec<(Server, Client)> {
    let serve = |cache: &Cache| {
        let (server, _) = serve_purging(1, cache);
        let client = Client::new(server.addr, Protocol::Http1);
        (server, client)
    };
    caches.iter().map(serve).collect()
}

#[actix_web::test]
async fn a_purge_reaches_every_cache_over_the_store_in_the_namespace() {
    let (store, clock) = (store(), ManualClock::at(START));
    let build = |namespace: &str, policy| {
        let cache = Cache::builder(store.clone()).clock(clock.clock());
        cache.namespace(namespace).policy(policy).build().unwrap()
    };
    let same = [
        build("shop", Policy::new()),
        build("shop", Policy::new().ignore_cookies(["_ga"])),
        build("shop", Policy::new().key_header("x-tenant")),
        build("shop", Policy::new().query(QueryKey::sorted())),
        build("shop", Policy::new().default_ttl(std::time::Duration::from_secs(9))),
    ];
    let child = same[0].with_policy(Policy::new().vary_cookie("theme"));
    let others = [build("shop2", Policy::new()), build("shop:", Policy::new().vary_cookie("a"))];
    let all: Vec<_> = same.iter().chain([&child]).chain(&others).cloned().collect();
    let apps = serve_over_one_store(&all);
    for purger in 0..same.len() + 1 {
        for (_, client) in &apps {
            client.get_with("/page?b=1&a=2", &[SHOP]).await;
            assert!(client.get_with("/page?b=1&a=2", &[SHOP]).await.is_hit());
        }
        let url = ("x-url", "/page?b=1&a=2");
        let purged = apps[purger].1.send(Method::POST, "/purge", &[SHOP, url]).await;
        assert_eq!(purged.status, 200);
        for (index, (_, client)) in apps.iter().enumerate() {
            let other = index > same.len();
            // The first and the last of the same share their pages, so one fills for both.
            let hit = client.get_with("/page?b=1&a=2", &[SHOP]).await.is_hit();
            assert!(if other { hit } else { !hit || index == 4 }, "{index} after {purger}");
        }
    }
    // Everything is everything, whosever.
    apps[0].1.send(Method::POST, "/purge", &[SHOP]).await;
    for (index, (_, client)) in apps.iter().enumerate() {
        let hit = client.get_with("/page?b=1&a=2", &[SHOP]).await.is_hit();
        assert!(!hit || index == 4, "{index}");
    }
}

#[actix_web::test]
async fn a_purge_of_everything_leaves_nothing_and_lets_all_be_stored_anew() {
    for (protocol, workers) in SETUPS {
        let caches =
            [cache().0, builder().0.policy(Policy::new().key_header("x-tenant")).build().unwrap()];
        for cache in caches {
            let (server, _) = serve_purging(workers, &cache);
            let client = Client::new(server.addr, protocol);
            for path in ["/a", "/b?c=1"] {
                for lang in ["de", "fr"] {
                    assert!(client.get_with(path, &[("x-lang", lang)]).await.is_stored());
                }
            }
            cache.handle().purge_all().await.unwrap();
            for path in ["/a", "/b?c=1"] {
                for lang in ["de", "fr"] {
                    let fields = [("x-lang", lang)];
                    assert!(client.get_with(path, &fields).await.is_stored(), "{path} {lang}");
                    assert!(client.get_with(path, &fields).await.is_hit(), "{path} {lang}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn what_cannot_be_purged_is_told_by_its_kind_and_with_advice() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(1, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    let handle = cache.handle();
    for url in [
        "",
        "page",
        "?a=1",
        "/a b",
        "/\u{fc}",
        "http://",
        "http:///page",
        "http://a b/page",
        "shop.example",
        "shop.example:80",
        "shop.example/page",
        "ftp://shop.example/page",
        "mailto:a@shop.example",
        "*",
    ] {
        let error = handle.purge_url(url).await.unwrap_err();
        assert!(matches!(error, PurgeError::Url), "{url}: {error}");
        assert!(error.to_string().contains("https://host/path"), "{error}");
        assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
        if url.is_ascii() {
            let answer = client.send(Method::POST, "/purge", &[("x-url", url)]).await;
            assert_eq!(answer.status, 500, "{url}");
        }
    }
    let error = handle.purge_url("/page").await.unwrap_err();
    assert!(matches!(error, PurgeError::NoHost), "{error}");
    assert!(error.to_string().contains("https://host/path"), "{error}");
    let longest = format!("/{}", "a".repeat(70_000));
    assert!(handle.purge_url(longest).await.is_err());
}

#[actix_web::test]
async fn a_store_that_fails_is_told_and_purges_again_once_it_works() {
    let plain = Policy::new;
    for (case, policy) in [("keys", plain()), ("tags", plain().key_header("x-tenant"))] {
        let store = Watched::new();
        let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
        let (server, _) = serve_purging(1, &cache);
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/page").await.is_stored());
        store.stored().await;
        let url = format!("http://{}/page", server.addr);
        store.fail(true);
        for error in [
            cache.handle().purge_url(&url).await.unwrap_err(),
            cache.handle().purge_all().await.unwrap_err(),
        ] {
            assert!(matches!(error, PurgeError::Store(_)), "{case}: {error}");
            assert!(error.to_string().contains("out of order"), "{case}: {error}");
            assert!(std::error::Error::source(&error).is_some());
            assert_eq!(error.status_code(), StatusCode::SERVICE_UNAVAILABLE);
        }
        let answer = client.send(Method::POST, "/purge", &[("x-url", "/page")]).await;
        assert_eq!(answer.status, 503, "{case}");
        assert!(
            client.get("/page").await.is_hit(),
            "{case}: nothing was purged, and that was told"
        );
        store.fail(false);
        cache.handle().purge_url(&url).await.unwrap();
        assert!(!client.get("/page").await.is_hit(), "{case}");
    }
}

#[actix_web::test]
async fn a_handler_without_a_cache_around_it_is_told_what_to_do() {
    let server = serve(1, || {
        let optional = |cache: Option<CacheHandle>| async move { cache.is_some().to_string() };
        let typed = |cache: Result<CacheHandle, CacheNotConfigured>| async move {
            cache.err().map_or_else(String::new, |error| error.to_string())
        };
        App::new()
            .route("/purge", web::post().to(purge))
            .route("/optional", web::get().to(optional))
            .route("/typed", web::get().to(typed))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let answer = client.send(Method::POST, "/purge", &[]).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("Cache::new(store)"), "{}", answer.text());
    assert_eq!(client.get("/optional").await.text(), "false");
    assert!(client.get("/typed").await.text().contains("no cache is around this handler"));
}

#[actix_web::test]
async fn a_handle_is_there_wherever_a_cache_is_on_off_or_not_meant_for_the_request() {
    let has = |cache: Option<CacheHandle>| async move { cache.is_some().to_string() };
    let policies: [(&str, Cache); 4] = [
        ("on", cache().0),
        ("off", builder().0.mode(Mode::Off).build().unwrap()),
        ("bypassed", builder().0.rule(Rule::any().bypass()).build().unwrap()),
        ("no rule", builder().0.rules_only().build().unwrap()),
    ];
    for (case, cache) in policies {
        let server = serve(1, move || App::new().wrap(cache.clone()).default_service(web::to(has)));
        let client = Client::new(server.addr, Protocol::Http1);
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            assert_eq!(client.send(method, "/", &[]).await.text(), "true", "{case}");
        }
    }
}

#[actix_web::test]
async fn a_page_that_purges_itself_is_not_stored() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let page = |cache: CacheHandle| async move {
            cache.purge_url("/").await.unwrap();
            "page"
        };
        App::new().wrap(cache.clone()).route("/", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http2);
    for _ in 0..2 {
        assert_eq!(client.get("/").await.cache_status(), "fwd=uri-miss; detail=overtaken");
    }
}

#[actix_web::test]
async fn a_handle_purges_from_many_threads_at_once() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(2, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    for n in 0..64 {
        assert!(client.get(&format!("/{n}")).await.is_stored());
    }
    let purged = Arc::new(Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            let (handle, purged, addr) = (cache.handle(), Arc::clone(&purged), server.addr);
            scope.spawn(move || {
                for n in 0..64 {
                    let url = format!("http://{addr}/{n}");
                    // Without any runtime: a store in memory need not be waited for.
                    let done = at_once(handle.purge_url(url)).unwrap();
                    *purged.lock().unwrap() += done.responses;
                }
                at_once(handle.purge_all()).unwrap();
            });
        }
    });
    assert_eq!(*purged.lock().unwrap(), 64, "each is forgotten once");
    for n in 0..64 {
        assert!(!client.get(&format!("/{n}")).await.is_hit());
    }
    assert_eq!(Purged::default().responses, 0);
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}
