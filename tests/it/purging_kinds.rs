//! What each kind of purge reaches, and what it leaves: tags from everywhere, groups, prefixes, named
//! routes, single variants.

use std::{thread, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse,
    http::{StatusCode, header::HeaderName},
    web,
};
use actix_web_cache::{
    Cache, CacheHandle, CacheOptions, CachePolicy, Policy, PurgeError, PurgeTarget,
    ResponseOptions, Rule,
};
use hyper::Method;

use crate::support::{Answer, Client, Protocol, SETUPS, Server, builder, serve};

/// A path, the fields it is asked with, and the tags that its page has then.
type Named<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

const SHOP: (&str, &str) = ("host", "shop.example");

/// Pages everywhere, which vary by `X-Lang`; they are named as the request says: `tag` by the
/// extractor, `attached` by the response, `answer: name: value` by fields.
fn serve_named(workers: usize, cache: &Cache) -> Server {
    let cache = cache.clone();
    serve(workers, move || {
        App::new()
            .wrap(cache.clone())
            .route("/route", web::get().to(page).wrap(CachePolicy::ttl(HOUR).tag("route")))
            .route("/purge/{name}", web::post().to(purge_route))
            .service(web::resource("/posts/{id}/{part}").name("post").get(page))
            .default_service(web::to(page))
    })
}

const HOUR: Duration = Duration::from_secs(3600);

async fn page(request: HttpRequest, options: CacheOptions) -> HttpResponse {
    let lines = |name| request.headers().get_all(name).map(|line| line.to_str().unwrap());
    lines("tag").for_each(|tag| options.tag(tag));
    let mut response = match lines("answer-status").next() {
        Some(status) => HttpResponse::build(StatusCode::from_bytes(status.as_bytes()).unwrap()),
        None => HttpResponse::Ok(),
    };
    response.insert_header(("vary", "x-lang"));
    for line in lines("answer") {
        let (name, value) = line.split_once(": ").unwrap();
        response.append_header((HeaderName::from_bytes(name.as_bytes()).unwrap(), value));
    }
    let attached = lines("attached").fold(ResponseOptions::new(), ResponseOptions::tag);
    response.extensions_mut().insert(attached);
    response.body(request.path().to_owned())
}

async fn purge_route(
    request: HttpRequest,
    name: web::Path<String>,
    cache: CacheHandle,
) -> Result<String, PurgeError> {
    let purged = cache.purge_route(&request, &name, ["1", "a b"]).await?;
    Ok(purged.responses.to_string())
}

fn build(policy: Policy) -> (Cache, Server, Client) {
    let cache = builder().0.policy(policy).build().unwrap();
    let server = serve_named(1, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    (cache, server, client)
}

async fn get(client: &Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    client.get_with(path, &[&[SHOP], fields].concat()).await
}

#[actix_web::test]
async fn a_tag_reaches_what_has_it_from_wherever_and_nothing_else() {
    for (protocol, workers) in SETUPS {
        let policy = Policy::new()
            .tag("all")
            .tag_with(|request| request.headers().get("x-lang").map(|_| "translated".to_owned()))
            .tag_fields(["cache-tag", "surrogate-key"]);
        let cache = builder()
            .0
            .policy(policy)
            .rule(Rule::pattern("/posts/{id}/{part}").tag("post:{id}"))
            .build()
            .unwrap();
        let server = serve_named(workers, &cache);
        let client = Client::new(server.addr, protocol);
        let pages: [Named<'_>; 8] = [
            ("/plain", &[], &[]),
            ("/lang", &[("x-lang", "de")], &["translated"]),
            ("/posts/1/text", &[], &["post:1"]),
            ("/posts/1/image?size=2", &[], &["post:1"]),
            ("/posts/2/text", &[], &["post:2"]),
            ("/route", &[], &["route"]),
            ("/handler", &[("tag", "a"), ("tag", "b"), ("attached", "c")], &["a", "b", "c"]),
            (
                "/fields",
                &[("answer", "cache-tag: c, d e"), ("answer", "surrogate-key: f g")],
                &["c", "d e", "f", "g"],
            ),
        ];
        let tags: [&[&str]; 11] = [
            &["all"],
            &["translated"],
            &["post:1"],
            &["route"],
            &["a"],
            &["c"],
            &["d e"],
            &["g", "nothing"],
            &["post:2", "b"],
            &["nothing"],
            &["A", "post:", "post:*", "d", ""],
        ];
        for purged in tags {
            for (path, fields, _) in pages {
                client.get_with(path, fields).await;
                assert!(client.get_with(path, fields).await.is_hit(), "{path} {protocol:?}");
            }
            match purged {
                [one] => cache.handle().purge_tag(*one).await.unwrap(),
                all => cache.handle().purge_tags(all.iter().copied()).await.unwrap(),
            };
            for (path, fields, has) in pages {
                let reached = purged.iter().any(|tag| *tag == "all" || has.contains(tag));
                let hit = client.get_with(path, fields).await.is_hit();
                assert_eq!(hit, !reached, "{path} by {purged:?} {protocol:?}");
            }
        }
    }
}

#[actix_web::test]
async fn what_has_too_many_or_too_long_tags_is_served_and_not_stored() {
    let (_, _server, client) = build(Policy::new());
    let long = "x".repeat(257);
    let groups = format!("cache-groups: {}", vec!["\"a\""; 65].join(", "));
    let many: Vec<_> = (0..65).map(|n| format!("cache-groups: \"{n}\"")).collect();
    let many: Vec<_> = many.iter().map(|line| ("answer", line.as_str())).collect();
    for (case, fields, stored) in [
        ("the same one often", &[("answer", groups.as_str())][..], true),
        ("too many", &many, false),
        ("one less", &many[1..], true),
        ("too long", &[("tag", long.as_str())], false),
        ("just fits", &[("tag", &long[1..])], true),
    ] {
        let path = format!("/{}", case.replace(' ', "-"));
        let answer = client.get_with(&path, fields).await;
        assert_eq!((answer.status, answer.text()), (hyper::StatusCode::OK, &*path), "{case}");
        assert_eq!(answer.is_stored(), stored, "{case}");
        if !stored {
            assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=tags", "{case}");
        }
    }
}

#[actix_web::test]
async fn fields_that_list_tags_reach_clients_unless_they_are_taken_out() {
    for (policy, kept) in [
        (Policy::new(), true),
        (Policy::new().tag_fields(["cache-tag"]), true),
        (Policy::new().tag_fields(["cache-tag"]).remove_tag_fields(), false),
    ] {
        let (_, _server, client) = build(policy);
        let fields = [("answer", "cache-tag: a"), ("answer", "cache-groups: \"a\"")];
        for hit in [false, true] {
            let answer = client.get_with("/", &fields).await;
            assert_eq!(answer.is_hit(), hit);
            assert_eq!(answer.field("cache-tag").is_some(), kept);
            assert!(answer.field("cache-groups").is_some(), "caches in between may read it");
        }
    }
}

#[actix_web::test]
async fn a_prefix_reaches_whole_segments_on_one_host_or_on_all() {
    let (cache, _server, client) = build(Policy::new());
    let handle = cache.handle();
    let paths = ["/", "/blog", "/blog/", "/blog/1?a=b", "/%62log/%31/x", "/blogs", "/Blog/1", "/b"];
    let hosts = ["shop.example", "other.example", "shop.example:81"];
    let shop = |path: &str| PurgeTarget::prefix(path).on_host("shop.example");
    for (case, pages, reached) in [
        ("a segment", shop("/blog"), &paths[1..5]),
        ("with a slash", shop("/blog/"), &paths[1..5]),
        ("encoded", shop("/blo%67"), &paths[1..5]),
        ("deeper", PurgeTarget::prefix("https://Shop.example/blog/1"), &paths[3..5]),
        ("everything", shop("/"), &paths[..]),
        ("nothing", shop("/blo"), &[]),
    ] {
        for host in hosts {
            for path in paths {
                client.get_with(path, &[("host", host)]).await;
            }
        }
        handle.purge(pages.clone()).await.unwrap();
        for host in hosts {
            for path in paths {
                let hit = client.get_with(path, &[("host", host)]).await.is_hit();
                let reached = host == "shop.example" && reached.contains(&path);
                assert_eq!(hit, !reached, "{case}: {path} of {host}");
            }
        }
        handle.purge(pages.on_any_host()).await.unwrap();
        for host in hosts {
            for path in paths {
                let hit = client.get_with(path, &[("host", host)]).await.is_hit();
                assert_eq!(hit, !reached.contains(&path), "{case}, any host: {path} of {host}");
            }
        }
    }
    assert!(matches!(handle.purge_prefix("/blog?a").await, Err(PurgeError::NoHost)));
    let query = handle.purge_prefix("http://shop.example/blog?a").await;
    assert!(matches!(query, Err(PurgeError::Url)), "{query:?}");
}

#[actix_web::test]
async fn a_group_is_one_hosts_and_is_invalidated_by_hand_or_by_a_change() {
    let (cache, _server, client) = build(Policy::new());
    let group = |groups: &'static str| [("answer", groups)];
    let (ab, b) = (group("cache-groups: \"a\", \"b\";x"), group("cache-groups: \"b\""));
    let other = ("host", "other.example");
    let fill = async || {
        for (path, fields) in [("/ab", &ab[..]), ("/b", &b), ("/none", &[])] {
            get(&client, path, fields).await;
            client.get_with(path, &[&[other], fields].concat()).await;
        }
    };
    let hits = async || {
        let mut hits = Vec::new();
        for path in ["/ab", "/b", "/none"] {
            hits.push(get(&client, path, &[]).await.is_hit());
            hits.push(client.get_with(path, &[other]).await.is_hit());
        }
        hits
    };
    let changed = async |answer: &[(&str, &str)]| {
        client.send(Method::POST, "/change", &[&[SHOP], answer].concat()).await;
    };
    fill().await;
    cache.handle().purge(PurgeTarget::group("a").on_host("SHOP.example")).await.unwrap();
    assert_eq!(hits().await, [false, true, true, true, true, true], "by hand");
    cache.handle().purge_all().await.unwrap();
    fill().await;
    for harmless in [
        &[("answer", "cache-group-invalidation: \"c\", \"A\"")][..],
        &[("answer", "cache-group-invalidation: a")],
        &[("answer", "cache-group-invalidation: \"a\""), ("answer-status", "404")],
        &[("answer", "cache-group-invalidation: \"a\""), ("answer-status", "500")],
        &[("answer", "cache-groups: \"a\"")],
    ] {
        changed(harmless).await;
        assert_eq!(hits().await, [true; 6], "{harmless:?}");
    }
    get(&client, "/safe", &[("answer", "cache-group-invalidation: \"a\", \"b\"")]).await;
    assert_eq!(hits().await, [true; 6], "a GET changes nothing");
    changed(&[("answer", "cache-group-invalidation: \"a\""), ("answer-status", "303")]).await;
    assert_eq!(hits().await, [false, true, true, true, true, true], "a redirection");
    fill().await;
    cache.handle().purge_all().await.unwrap();
    fill().await;
    let lines: &[_] = &[
        ("answer", "cache-group-invalidation: \"x\""),
        ("answer", "cache-group-invalidation: \"b\""),
    ];
    changed(lines).await;
    assert_eq!(hits().await, [false, true, false, true, true, true], "both of b, here only");
    let nobody = cache.handle().purge_group("a").await;
    assert!(matches!(nobody, Err(PurgeError::NoHost)), "{nobody:?}");
}

#[actix_web::test]
async fn a_named_route_is_purged_on_the_requests_own_host_whatever_a_proxy_says() {
    let (_, _server, client) = build(Policy::new());
    let path = "/posts/1/a%20b";
    let claims: [&[(&str, &str)]; 3] =
        [&[], &[("x-forwarded-host", "other.example")], &[("forwarded", "host=other.example")]];
    for claim in claims {
        for host in ["shop.example", "other.example"] {
            client.get_with(path, &[("host", host)]).await;
        }
        let fields = [&[SHOP], claim].concat();
        let purged = client.send(Method::POST, "/purge/post", &fields).await;
        assert_eq!(purged.text(), "1", "{claim:?}");
        assert!(client.get_with(path, &[("host", "other.example")]).await.is_hit());
        assert!(client.get_with(path, &[SHOP]).await.is_stored(), "{claim:?}");
    }
    let none = client.send(Method::POST, "/purge/nobody", &[SHOP]).await;
    assert_eq!(none.status, 500);
    assert!(none.text().contains("no route to purge"), "{}", none.text());
}

#[actix_web::test]
async fn one_variant_of_a_url_is_purged_and_the_others_stay() {
    let policy = Policy::new().key_header("x-tenant").vary_cookie("theme");
    for (case, policy, tenant) in
        [("plain keys", Policy::new(), false), ("keys with parts", policy, true)]
    {
        let (cache, _server, client) = build(policy);
        let variants: [&[(&str, &str)]; 5] = [
            &[("x-lang", "de")],
            &[("x-lang", "fr")],
            &[],
            &[("x-lang", "de"), ("x-tenant", "a")],
            &[("x-tenant", "a"), ("cookie", "theme=dark")],
        ];
        let variants = &variants[..if tenant { 5 } else { 3 }];
        for purged in variants {
            for expire in [false, true] {
                for fields in variants {
                    get(&client, "/page", fields).await;
                    get(&client, "/other", fields).await;
                }
                let pages =
                    PurgeTarget::url("http://shop.example/page").variant(purged.iter().copied());
                let done = match expire {
                    true => cache.handle().expire(pages).await.unwrap(),
                    false => cache.handle().purge(pages).await.unwrap(),
                };
                assert_eq!(done.responses, 1, "{case} {purged:?}");
                for fields in variants {
                    let hit = get(&client, "/page", fields).await.is_hit();
                    assert_eq!(hit, fields != purged, "{case}: {fields:?} after {purged:?}");
                    assert!(get(&client, "/other", fields).await.is_hit());
                }
            }
        }
    }
    let (cache, _server, client) = build(Policy::new().key_with("x", |_| Some(String::new())));
    let de = [("x-lang", "de")];
    get(&client, "/page", &de).await;
    let pages = PurgeTarget::url("http://shop.example/page");
    cache.handle().purge(pages.clone().variant([("x-lang", "fr")])).await.unwrap();
    assert!(!get(&client, "/page", &de).await.is_hit(), "too much rather than too little");
    let wrong = cache.handle().purge(pages.variant([("a b", "c")])).await;
    assert!(matches!(wrong, Err(PurgeError::Field)), "{wrong:?}");
}

#[actix_web::test]
async fn a_url_is_purged_on_any_host() {
    for policy in [Policy::new(), Policy::new().key_header("x-tenant")] {
        let (cache, _server, client) = build(policy);
        let hosts = ["shop.example", "other.example:81"];
        for host in hosts {
            for path in ["/page?a=1", "/page"] {
                client.get_with(path, &[("host", host)]).await;
            }
        }
        cache.handle().purge(PurgeTarget::url("/page?a=1").on_any_host()).await.unwrap();
        for host in hosts {
            assert!(client.get_with("/page", &[("host", host)]).await.is_hit(), "{host}");
            assert!(!client.get_with("/page?a=1", &[("host", host)]).await.is_hit(), "{host}");
        }
    }
}

#[actix_web::test]
async fn a_thread_without_a_runtime_purges_all_kinds() {
    let (cache, _server, client) = build(Policy::new().tag("all"));
    for pages in [
        PurgeTarget::all(),
        PurgeTarget::url("http://shop.example/page"),
        PurgeTarget::url("http://shop.example/page").variant([]),
        PurgeTarget::url("/page").on_any_host(),
        PurgeTarget::prefix("http://shop.example/"),
        PurgeTarget::tag("all"),
        PurgeTarget::group("g").on_host("shop.example"),
    ] {
        let grouped = [("answer", "cache-groups: \"g\"")];
        get(&client, "/page", &grouped).await;
        let (handle, moved) = (cache.handle(), pages.clone());
        let purge = move || futures_util::FutureExt::now_or_never(handle.purge(moved));
        thread::spawn(purge).join().unwrap().expect("at once").unwrap();
        assert!(!get(&client, "/page", &grouped).await.is_hit(), "{pages:?}");
    }
}

/// A handler that says 304 does not say what the page is called.
#[actix_web::test]
async fn what_is_found_to_hold_keeps_its_tags() {
    let (builder, clock) = builder();
    let cache = builder.build().unwrap();
    let app = cache.clone();
    let server = serve(1, move || {
        let page = |request: HttpRequest, options: CacheOptions| async move {
            if request.headers().contains_key("if-none-match") {
                return HttpResponse::NotModified().finish();
            }
            options.tag("first");
            HttpResponse::Ok().insert_header(("etag", "\"a\"")).body("page")
        };
        App::new().wrap(app.clone()).default_service(web::to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for method in [Method::GET, Method::HEAD] {
        assert!(client.get("/").await.is_stored());
        clock.advance(Duration::from_secs(61));
        client.send(method.clone(), "/", &[]).await;
        assert!(client.get("/").await.is_hit() || method == Method::HEAD);
        cache.handle().purge_tag("first").await.unwrap();
        assert!(!client.get("/").await.is_hit(), "{method}");
        cache.handle().purge_all().await.unwrap();
    }
}
