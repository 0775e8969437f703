//! Traps that other caches fell into, the Python original among them, and that this one does not.

use std::{sync::Arc, time::UNIX_EPOCH};

use actix_web::{
    App, HttpRequest, HttpResponse,
    middleware::{Compress, DefaultHeaders, Next, from_fn},
    web,
};
use actix_web_cache::{Cache, CacheHandle, MemoryStore, Policy, Rule, SetCacheControl};
use httpdate::fmt_http_date;
use hyper::Method;
use tokio::sync::{Notify, mpsc};

use crate::support::{
    Client, Protocol, SETUPS, START, Spy, builder, cache, obey, raw, secs, serve, site,
};

#[actix_web::test]
async fn a_head_never_leaves_an_empty_page_for_a_get() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new()
                .wrap(cache.clone())
                .default_service(web::to(|| async { HttpResponse::Ok().body("page") }))
        });
        let client = Client::new(server.addr, protocol);
        for _ in 0..2 {
            let head = client.head("/").await;
            assert_eq!(head.cache_status(), "fwd=uri-miss; detail=head", "{protocol:?}");
        }
        let get = client.get("/").await;
        assert_eq!((get.text(), get.is_stored()), ("page", true), "{protocol:?}");
        assert_eq!(client.get("/").await.text(), "page");
    }
}

#[actix_web::test]
async fn what_a_response_forbids_or_limits_is_obeyed() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    for (said, detail) in [
        ("cache-control: no-store", "no-store"),
        ("cache-control: No-Store, max-age=60", "no-store"),
        ("cache-control: private", "private"),
        ("cache-control: private=\"x-a\", max-age=60", "private"),
        ("cache-control: no-cache", "no-cache"),
        ("cache-control: max-age=0", "no-lifetime"),
        ("cache-control: s-maxage=0, max-age=60", "no-lifetime"),
        ("cache-control: max-age=abc", "no-lifetime"),
        ("cache-control: max-age=-1", "no-lifetime"),
        ("cache-control: max-age=1.5", "no-lifetime"),
        ("expires: 0", "no-lifetime"),
        ("expires: Thu, 01 Jan 1970 00:00:00 GMT", "no-lifetime"),
        ("vary: *", "vary"),
        ("vary: accept, *", "vary"),
        ("vary:  * ", "vary"),
    ] {
        let (name, value) = said.split_once(':').unwrap();
        for _ in 0..2 {
            let answer = site.client.get_with("/", &[("answer", said)]).await;
            assert_eq!(answer.cache_status(), format!("fwd=uri-miss; detail={detail}"), "{said}");
            assert_eq!(answer.field(name).as_deref(), Some(value.trim()), "{said}");
        }
    }
    // Only as text inside of something else, and in letters of any case.
    for (path, said, ttl) in [
        ("/quoted", "cache-control: ext=\"no-store\", max-age=20", 20),
        ("/case", "cache-control: Max-Age=10", 10),
        ("/sign", "cache-control: ext=\"a=b, private\", max-age=20", 20),
    ] {
        let fields = [("answer", said)];
        let miss = site.client.get_with(path, &fields).await;
        let hit = site.client.get_with(path, &fields).await;
        assert_eq!(hit.cache_status(), format!("hit; ttl={ttl}"), "{said}");
        let value = said.split_once(": ").unwrap().1;
        for answer in [miss, hit] {
            assert_eq!(answer.field("cache-control").as_deref(), Some(value), "as it was sent");
        }
    }
}

#[actix_web::test]
async fn nobodys_cookie_reaches_anybody_else() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    let set = ("answer", "set-cookie: sid=secret");
    let public = ("answer", "cache-control: public, max-age=60");
    for fields in [
        &[set][..],
        &[set, public],
        &[set, ("cookie", "theme=dark")],
        &[set, public, ("cookie", "sid=old")],
        &[set, ("answer", "set-cookie: other=1")],
    ] {
        let first = site.client.get_with("/", fields).await;
        assert!(first.field("set-cookie").is_some() && !first.is_stored(), "{fields:?}");
        let stranger = site.client.get_with("/", &[("answer", "cache-control: no-store")]).await;
        assert_eq!((stranger.field("set-cookie"), stranger.is_hit()), (None, false), "{fields:?}");
    }
}

#[actix_web::test]
async fn a_part_is_never_taken_for_the_whole() {
    let (cache, _) = cache();
    let site = site(&cache, |request, _| {
        if request.headers().contains_key("range") {
            HttpResponse::PartialContent()
                .append_header(("content-range", "bytes 0-1/4"))
                .append_header(("cache-control", "max-age=60"))
                .body("pa")
        } else {
            HttpResponse::Ok().body("page")
        }
    });
    for _ in 0..2 {
        let part = site.client.get_with("/", &[("range", "bytes=0-1")]).await;
        assert_eq!((part.status.as_u16(), part.text(), part.is_stored()), (206, "pa", false));
    }
    let whole = site.client.get("/").await;
    assert_eq!((whole.status.as_u16(), whole.text(), whole.is_hit()), (200, "page", false));
    let hit = site.client.get("/").await;
    assert_eq!((hit.status.as_u16(), hit.text(), hit.is_hit()), (200, "page", true));
}

#[actix_web::test]
async fn a_page_for_one_token_is_not_shown_for_another() {
    let (cache, _) = cache();
    let site = site(&cache, |request, _| {
        let token = request.headers().get("authorization").map_or("-", |t| t.to_str().unwrap());
        HttpResponse::Ok().append_header(("cache-control", "max-age=60")).body(token.to_owned())
    });
    for token in ["Bearer A", "Bearer B", "Bearer A"] {
        let answer = site.client.get_with("/", &[("authorization", token)]).await;
        assert_eq!((answer.text(), answer.is_stored()), (token, false));
    }
    assert_eq!(site.client.get("/").await.text(), "-", "nor to nobody");
}

#[actix_web::test]
async fn every_line_of_a_field_is_stored() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    let lines = ["link: </a>", "link: </b>", "vary: accept", "vary: accept-language"];
    let challenges = ["www-authenticate: Basic", "www-authenticate: Digest"];
    let fields: Vec<_> = lines.into_iter().chain(challenges).map(|line| ("answer", line)).collect();
    let miss = site.client.get_with("/", &fields).await;
    let hit = site.client.get_with("/", &fields).await;
    assert!(hit.is_hit());
    // Lines of Vary are joined where Cookie is added to them.
    assert_eq!(hit.field("vary").as_deref(), Some("accept, accept-language, Cookie"));
    for (name, count) in [("link", 2), ("www-authenticate", 2), ("vary", 1)] {
        assert_eq!(hit.headers.get_all(name).iter().count(), count, "{name}");
        assert_eq!(hit.field(name), miss.field(name), "{name}");
    }
}

#[actix_web::test]
async fn directives_of_requests_count_where_the_application_wants_them() {
    let deaf = site(&builder().0.build().unwrap(), obey);
    let policy = Policy::new().honor_request_directives();
    let (builder, clock) = builder();
    let polite = site(&builder.policy(policy).build().unwrap(), obey);
    for site in [&deaf, &polite] {
        site.client.get("/").await;
    }
    clock.advance(secs(10));
    for (directive, want) in [
        ("no-cache", "fwd=request; stored"),
        ("max-age=0", "hit; ttl=60"),
        ("max-age=5", "hit; ttl=60"),
        ("min-fresh=61", "fwd=request; stored"),
        ("only-if-cached", "hit; ttl=60"),
    ] {
        let fields = [("cache-control", directive)];
        assert!(deaf.client.get_with("/", &fields).await.is_hit(), "{directive}");
        assert_eq!(polite.client.get_with("/", &fields).await.cache_status(), want, "{directive}");
    }
    for site in [&deaf, &polite] {
        let answer = site.client.get_with("/secret", &[("cache-control", "no-store")]).await;
        assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=request-no-store");
    }
}

#[actix_web::test]
async fn a_client_that_has_the_page_gets_304_from_the_store() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    let tagged =
        [("answer", "etag: \"v1\""), ("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT")];
    site.client.get_with("/", &tagged).await;
    for (name, value, status) in [
        ("if-none-match", "\"v1\"", 304),
        ("if-none-match", "\"v0\"", 200),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT", 304),
        ("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT", 200),
    ] {
        let answer = site.client.get_with("/", &[(name, value)]).await;
        assert_eq!((answer.status.as_u16(), answer.is_hit()), (status, true), "{name}: {value}");
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    assert_eq!(site.runs.get(), 1);
}

#[actix_web::test]
async fn what_was_kept_here_is_not_kept_as_long_again_downstream() {
    for (said, client_ttl) in [("", None), ("cache-control: max-age=60", None), ("", Some(40))] {
        let (builder, clock) = builder();
        let policy = match client_ttl {
            Some(ttl) => Policy::new().client_ttl(secs(ttl)),
            None => Policy::new(),
        };
        let site = site(&builder.policy(policy).build().unwrap(), obey);
        let fields: Vec<_> = [("answer", said)].into_iter().filter(|_| !said.is_empty()).collect();
        for age in [0, 25, 59] {
            let answer = site.client.get_with("/", &fields).await;
            let number = |text: &str| text.rsplit('=').next().unwrap().parse::<u64>().unwrap();
            let told = number(&answer.field("cache-control").unwrap());
            let aged = answer.field("age").map_or(0, |age| number(&age));
            assert_eq!(aged, age);
            let want = (60 - age).min(client_ttl.unwrap_or(60));
            assert_eq!(told - aged, want, "{said} {client_ttl:?} at {age} s");
            if let Some(expires) = answer.field("expires") {
                let end = fmt_http_date(UNIX_EPOCH + secs(START + age + want));
                assert_eq!(expires, end, "{client_ttl:?} at {age} s");
            }
            clock.advance(secs(if age == 0 { 25 } else { 34 }));
        }
        assert_eq!(site.runs.get(), 1);
    }
}

#[actix_web::test]
async fn what_a_response_or_a_middleware_around_its_handler_says_rules_the_store() {
    let (cache, clock) = cache();
    let server = serve(1, move || {
        let handler = || web::to(|request: HttpRequest| async move { obey(&request, 1) });
        let short = SetCacheControl::new().max_age(secs(1));
        App::new()
            .service(web::scope("/wrapped").wrap(short).default_service(handler()))
            .default_service(handler())
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let expires = format!("expires: {}", fmt_http_date(UNIX_EPOCH + secs(START + 5)));
    for (path, said) in [
        ("/max-age", "cache-control: max-age=5"),
        ("/expires", expires.as_str()),
        ("/wrapped/none", "x-a: b"),
        ("/wrapped/longer", "cache-control: max-age=300"),
    ] {
        assert!(client.get_with(path, &[("answer", said)]).await.is_stored(), "{path}");
    }
    for (step, still) in [(0, 4), (1, 2), (4, 0)] {
        clock.advance(secs(step));
        let mut hits = 0;
        for path in ["/max-age", "/expires", "/wrapped/none", "/wrapped/longer"] {
            let no_store = [("answer", "cache-control: no-store")];
            hits += usize::from(client.get_with(path, &no_store).await.is_hit());
        }
        assert_eq!(hits, still, "another {step} s later");
    }
}

#[actix_web::test]
async fn what_one_resource_varies_by_is_nothing_to_another() {
    let (cache, clock) = cache();
    let site = site(&cache, obey);
    let plain = ["/?a=1", "/other"];
    for path in plain {
        site.client.get_with(path, &[("host", "one")]).await;
    }
    site.client.get_with("/", &[("host", "two")]).await;
    let varied = [
        ("host", "one"),
        ("x-a", "1"),
        ("answer", "vary: x-a"),
        ("answer", "cache-control: max-age=5"),
    ];
    assert!(site.client.get_with("/?v=1", &varied).await.is_stored());
    assert!(site.client.get_with("/", &varied).await.is_stored());
    clock.advance(secs(30));
    for (path, host) in [("/?a=1", "one"), ("/other", "one"), ("/", "two")] {
        let answer = site.client.get_with(path, &[("host", host), ("x-a", "2")]).await;
        assert!(answer.is_hit(), "{host}{path}");
        assert_eq!(answer.field("vary").as_deref(), Some("Cookie"), "{host}{path}");
    }
}

#[actix_web::test]
async fn variants_that_live_longer_than_the_one_that_taught_the_vary_stay_reachable() {
    let (cache, clock) = cache();
    let site = site(&cache, obey);
    for (value, lifetime) in [("1", "max-age=5"), ("2", "max-age=500")] {
        let lifetime = format!("cache-control: {lifetime}");
        let fields = [("x-a", value), ("answer", "vary: x-a"), ("answer", &*lifetime)];
        assert!(site.client.get_with("/", &fields).await.is_stored());
    }
    clock.advance(secs(400));
    let answer = site.client.get_with("/", &[("x-a", "2")]).await;
    assert_eq!((answer.text(), answer.cache_status().as_str()), ("run 2", "hit; ttl=100"));
}

#[actix_web::test]
async fn what_was_forgotten_is_not_brought_back_by_its_next_reader() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    let of = |language| [("accept-language", language), ("answer", "vary: accept-language")];
    for path in ["/p", "/p?q"] {
        for language in ["en", "fr"] {
            site.client.get_with(path, &of(language)).await;
        }
    }
    site.client.send(Method::POST, "/p", &of("en")).await;
    for (path, language, body) in [
        ("/p", "en", "run 6"),
        ("/p", "fr", "run 7"),
        ("/p?q", "en", "run 3"),
        ("/p?q", "fr", "run 4"),
        ("/p", "en", "run 6"),
    ] {
        assert_eq!(
            site.client.get_with(path, &of(language)).await.text(),
            body,
            "{path} {language}"
        );
    }
}

#[actix_web::test]
async fn a_store_that_fails_costs_hits_and_no_answer() {
    let spy = Spy::new();
    let site = site(&Cache::new(spy.clone()), obey);
    site.client.get("/").await;
    assert!(site.client.get("/").await.is_hit());
    spy.set_broken(true);
    for (method, path, status) in [
        (Method::GET, "/", "fwd=bypass; detail=store-error"),
        (Method::HEAD, "/", "fwd=bypass; detail=store-error"),
        (Method::GET, "/new", "fwd=bypass; detail=store-error"),
        (Method::POST, "/", "fwd=method"),
    ] {
        let answer = site.client.send(method, path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (200, status));
    }
    spy.set_broken(false);
    site.client.get("/late").await;
    assert!(site.client.get("/late").await.is_hit(), "it recovers by itself");
}

#[actix_web::test]
async fn paths_outside_ascii_are_cached_or_refused_and_nothing_breaks() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    for path in ["/caf%C3%A9", "/%FF%00%0A", "/?q=%E2%82%AC"] {
        assert!(site.client.get(path).await.is_stored(), "{path}");
        assert!(site.client.get(path).await.is_hit(), "{path}");
    }
    let request = "GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(raw(site.server.addr, request.as_bytes()).starts_with(b"HTTP/1.1 400"));
    assert!(site.client.get("/caf%C3%A9").await.is_hit());
}

#[actix_web::test]
async fn middlewares_between_cache_and_handler_do_not_defeat_it() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        App::new()
            .route("/", web::to(|| async { HttpResponse::Ok().body("page ".repeat(1000)) }))
            .wrap(DefaultHeaders::new().add(("x-between", "1")))
            .wrap(from_fn(|request, next: Next<_>| next.call(request)))
            .wrap(Compress::default())
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for coding in ["gzip", "identity"] {
        let fields = [("accept-encoding", coding)];
        let miss = client.get_with("/", &fields).await;
        let hit = client.get_with("/", &fields).await;
        assert!(miss.is_stored() && hit.is_hit(), "{coding}");
        assert_eq!((&hit.body, hit.field("x-between")), (&miss.body, Some("1".to_owned())));
        assert_eq!(hit.body.len() == 5000, coding == "identity");
    }
}

#[actix_web::test]
async fn an_empty_page_is_a_page() {
    let (cache, _) = cache();
    let site = site(&cache, |_, _| HttpResponse::Ok().finish());
    for want in ["fwd=uri-miss; stored", "hit; ttl=60"] {
        let answer = site.client.get("/").await;
        assert_eq!(answer.cache_status(), want);
        assert_eq!(
            (answer.status.as_u16(), answer.field("content-length").as_deref()),
            (200, Some("0"))
        );
    }
}

#[actix_web::test]
async fn a_rule_for_redirects_stores_them() {
    let rule = Rule::path("/old").status([302, 303]).ttl(secs(30));
    let site = site(&builder().0.rule(rule).build().unwrap(), obey);
    for status in ["302", "303"] {
        let fields = [("answer-status", status), ("answer", "location: /new")];
        let query = format!("/old?{status}");
        site.client.get_with(&query, &fields).await;
        let hit = site.client.get_with(&query, &fields).await;
        assert_eq!(hit.cache_status(), "hit; ttl=30", "{status}");
        assert_eq!(hit.field("location").as_deref(), Some("/new"));
    }
}

#[actix_web::test]
async fn a_cache_within_a_cache_is_no_error() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let inner = cache.with_policy(Policy::new().default_ttl(secs(7)));
        App::new()
            .service(web::resource("/").wrap(inner).to(|| async { "page" }))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for want in ["fwd=uri-miss; stored", "hit; ttl=7", "hit; ttl=7"] {
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (200, want));
    }
}

#[actix_web::test]
async fn made_up_urls_and_hosts_do_not_grow_the_store_beyond_its_bytes() {
    const LIMIT: usize = 256 * 1024;
    let store = MemoryStore::new(LIMIT);
    let site = site(&Cache::new(store.clone()), |_, _| HttpResponse::Ok().body("x".repeat(4096)));
    for n in 0..300 {
        let host = format!("host-{}", n % 7);
        let answer = site.client.get_with(&format!("/?n={n}"), &[("host", &host)]).await;
        assert!(answer.is_stored(), "{n}");
        let bytes = usize::try_from(store.bytes()).unwrap();
        assert!(bytes <= LIMIT, "{bytes} bytes after {n} pages");
    }
}

#[actix_web::test]
async fn a_field_of_the_handler_named_x_cache_is_its_own() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    for _ in 0..2 {
        let answer = site.client.get_with("/", &[("answer", "x-cache: from upstream")]).await;
        assert_eq!(answer.field("x-cache").as_deref(), Some("from upstream"));
    }
    assert_eq!(site.runs.get(), 1);
}

#[actix_web::test]
async fn a_page_being_made_while_it_is_purged_is_not_stored() {
    let (cache, _) = cache();
    let (began, mut begun) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let (go, purging) = (Arc::clone(&release), cache.clone());
    let server = serve(1, move || {
        let (began, go) = (began.clone(), Arc::clone(&go));
        let slow = move |request: HttpRequest| {
            let (began, go) = (began.clone(), Arc::clone(&go));
            async move {
                if request.headers().contains_key("x-slow") {
                    began.send(()).unwrap();
                    go.notified().await;
                    return HttpResponse::Ok().body("old");
                }
                HttpResponse::Ok().body("new")
            }
        };
        let purge = |cache: CacheHandle| async move { cache.purge_url("/page").await.map(|_| "") };
        App::new()
            .route("/page", web::to(slow))
            .route("/purge", web::post().to(purge))
            .wrap(purging.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (method, path) in [(Method::POST, "/purge"), (Method::PUT, "/page"), (Method::GET, "")] {
        let slow = client.clone();
        let old =
            actix_web::rt::spawn(async move { slow.get_with("/page", &[("x-slow", "1")]).await });
        begun.recv().await.unwrap();
        if path.is_empty() {
            let url = format!("http://{}/page", server.addr);
            cache.handle().purge_url(url).await.unwrap();
        } else {
            assert_eq!(client.send(method.clone(), path, &[]).await.status, 200);
        }
        release.notify_one();
        assert_eq!(old.await.unwrap().text(), "old", "its own client gets it");
        let next = client.get("/page").await;
        assert_eq!((next.text(), next.is_hit()), ("new", false), "{method} {path}");
        assert!(client.get("/page").await.is_hit());
        cache.handle().purge_all().await.unwrap();
    }
}
