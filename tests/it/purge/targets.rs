//! Each kind of `PurgeTarget`: tags from every source, prefixes, cache groups, named routes,
//! variants and URLs on any host.

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

use super::app::SHOP;
use crate::support::{Answer, Client, Protocol, SETUPS, Server, builder, recording_app, serve};

/// A path, the request fields, and the tags of the response.
type Tagged<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

/// Answers every path with `Vary: X-Lang`. The request chooses the tags: `tag` sets one through the
/// extractor, `attached` one through the response options, `answer: name: value` a response field.
fn serve_tagged(workers: usize, cache: &Cache) -> Server {
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
    Ok(purged.to_string())
}

fn build(policy: Policy) -> (Cache, Server, Client) {
    let cache = builder().0.policy(policy).build().unwrap();
    let server = serve_tagged(1, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    (cache, server, client)
}

async fn get(client: &Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    client.get_with(path, &[&[SHOP], fields].concat()).await
}

#[actix_web::test]
async fn tag_purge_reaches_tags_from_every_source_and_nothing_else() {
    for (protocol, workers) in SETUPS {
        let policy = Policy::new()
            .tag("all")
            .tag_with(|request| request.headers().get("x-lang").map(|_| "translated".to_owned()))
            .tag_fields(["cache-tag", "surrogate-key"]);
        let cache = builder()
            .0
            .policy(policy)
            .rule(Rule::pattern("/posts/{id}/{part}").with(|policy| policy.tag("post:{id}")))
            .build()
            .unwrap();
        let server = serve_tagged(workers, &cache);
        let client = Client::new(server.addr, protocol);
        let requests: [Tagged<'_>; 10] = [
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
            ("/star", &[("tag", "post:*"), ("tag", "*")], &["post:*", "*"]),
            ("/class", &[("tag", "[ab]?")], &["[ab]?"]),
        ];
        let tags: [&[&str]; 14] = [
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
            &["A", "post:", "post:?", "d", ""],
            // Tags are no patterns: such a tag reaches only the response that has this very tag.
            &["post:*"],
            &["*"],
            &["[ab]?", "?", "[a-z]", "post:[12]", "^.*$", "%"],
        ];
        for purged in tags {
            for (path, fields, _) in requests {
                client.get_with(path, fields).await;
                assert!(client.get_with(path, fields).await.is_hit(), "{path} {protocol:?}");
            }
            match purged {
                [tag] => cache.handle().purge_tag(*tag).await.unwrap(),
                tags => cache.handle().purge_tags(tags.iter().copied()).await.unwrap(),
            };
            for (path, fields, own_tags) in requests {
                let reached = purged.iter().any(|tag| *tag == "all" || own_tags.contains(tag));
                let hit = client.get_with(path, fields).await.is_hit();
                assert_eq!(hit, !reached, "{path} by {purged:?} {protocol:?}");
            }
        }
    }
}

#[actix_web::test]
async fn response_with_too_many_or_too_long_tags_is_not_stored() {
    let (_, _server, client) = build(Policy::new());
    let long = "x".repeat(257);
    let groups = format!("cache-groups: {}", vec!["\"a\""; 65].join(", "));
    let many: Vec<_> = (0..65).map(|n| format!("cache-groups: \"{n}\"")).collect();
    let many: Vec<_> = many.iter().map(|line| ("answer", line.as_str())).collect();
    for (case, fields, stored) in [
        ("one tag repeated", &[("answer", groups.as_str())][..], true),
        ("too many tags", &many, false),
        ("maximum number of tags", &many[1..], true),
        ("tag too long", &[("tag", long.as_str())], false),
        ("maximum length", &[("tag", &long[1..])], true),
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
async fn tag_fields_reach_clients_unless_removed() {
    for (policy, is_kept) in [
        (Policy::new(), true),
        (Policy::new().tag_fields(["cache-tag"]), true),
        (Policy::new().tag_fields(["cache-tag"]).remove_tag_fields(), false),
    ] {
        let (_, _server, client) = build(policy);
        let fields = [("answer", "cache-tag: a"), ("answer", "cache-groups: \"a\"")];
        for hit in [false, true] {
            let answer = client.get_with("/", &fields).await;
            assert_eq!(answer.is_hit(), hit);
            assert_eq!(answer.field("cache-tag").is_some(), is_kept);
            assert!(
                answer.field("cache-groups").is_some(),
                "caches downstream may use it (RFC 9875)"
            );
        }
    }
}

#[actix_web::test]
async fn prefix_purge_matches_whole_segments_on_one_or_all_hosts() {
    let (cache, _server, client) = build(Policy::new());
    let handle = cache.handle();
    let paths = ["/", "/blog", "/blog/", "/blog/1?a=b", "/%62log/%31/x", "/blogs", "/Blog/1", "/b"];
    let hosts = ["shop.example", "other.example", "shop.example:81"];
    let shop = |path: &str| PurgeTarget::prefix(path).on_host("shop.example");
    for (case, target, reached) in [
        ("one segment", shop("/blog"), &paths[1..5]),
        ("trailing slash", shop("/blog/"), &paths[1..5]),
        ("percent-encoded", shop("/blo%67"), &paths[1..5]),
        ("two segments", PurgeTarget::prefix("https://Shop.example/blog/1"), &paths[3..5]),
        ("root", shop("/"), &paths[..]),
        ("part of a segment", shop("/blo"), &[]),
    ] {
        for host in hosts {
            for path in paths {
                client.get_with(path, &[("host", host)]).await;
            }
        }
        handle.purge(target.clone()).await.unwrap();
        for host in hosts {
            for path in paths {
                let hit = client.get_with(path, &[("host", host)]).await.is_hit();
                let reached = host == "shop.example" && reached.contains(&path);
                assert_eq!(hit, !reached, "{case}: {path} of {host}");
            }
        }
        handle.purge(target.on_any_host()).await.unwrap();
        for host in hosts {
            for path in paths {
                let hit = client.get_with(path, &[("host", host)]).await.is_hit();
                assert_eq!(hit, !reached.contains(&path), "{case}, any host: {path} of {host}");
            }
        }
    }
    assert!(matches!(handle.purge_prefix("/blog?a").await, Err(PurgeError::MissingHost)));
    let query = handle.purge_prefix("http://shop.example/blog?a").await;
    assert!(matches!(query, Err(PurgeError::Url(_))), "{query:?}");
}

#[actix_web::test]
async fn cache_group_is_invalidated_by_handle_or_unsafe_method() {
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
    let change = async |answer: &[(&str, &str)]| {
        client.send(Method::POST, "/change", &[&[SHOP], answer].concat()).await;
    };
    fill().await;
    cache.handle().purge(PurgeTarget::group("a").on_host("SHOP.example")).await.unwrap();
    assert_eq!(hits().await, [false, true, true, true, true, true], "purged by the handle");
    cache.handle().purge_all().await.unwrap();
    fill().await;
    for harmless in [
        &[("answer", "cache-group-invalidation: \"c\", \"A\"")][..],
        &[("answer", "cache-group-invalidation: a")],
        &[("answer", "cache-group-invalidation: \"a\""), ("answer-status", "404")],
        &[("answer", "cache-group-invalidation: \"a\""), ("answer-status", "500")],
        &[("answer", "cache-groups: \"a\"")],
    ] {
        change(harmless).await;
        assert_eq!(hits().await, [true; 6], "{harmless:?}");
    }
    get(&client, "/safe", &[("answer", "cache-group-invalidation: \"a\", \"b\"")]).await;
    assert_eq!(hits().await, [true; 6], "a GET invalidates nothing");
    change(&[("answer", "cache-group-invalidation: \"a\""), ("answer-status", "303")]).await;
    assert_eq!(hits().await, [false, true, true, true, true, true], "invalidated by a redirect");
    fill().await;
    cache.handle().purge_all().await.unwrap();
    fill().await;
    let lines: &[_] = &[
        ("answer", "cache-group-invalidation: \"x\""),
        ("answer", "cache-group-invalidation: \"b\""),
    ];
    change(lines).await;
    assert_eq!(
        hits().await,
        [false, true, false, true, true, true],
        "both entries of group b on this host only"
    );
    let without_host = cache.handle().purge_group("a").await;
    assert!(matches!(without_host, Err(PurgeError::MissingHost)), "{without_host:?}");
}

#[actix_web::test]
async fn route_purge_uses_request_host_despite_forwarded_fields() {
    let (_, _server, client) = build(Policy::new());
    let path = "/posts/1/a%20b";
    let forwarded: [&[(&str, &str)]; 3] =
        [&[], &[("x-forwarded-host", "other.example")], &[("forwarded", "host=other.example")]];
    for fields in forwarded {
        for host in ["shop.example", "other.example"] {
            client.get_with(path, &[("host", host)]).await;
        }
        let with_host = [&[SHOP], fields].concat();
        let purged = client.send(Method::POST, "/purge/post", &with_host).await;
        assert_eq!(purged.text(), "1 stored response", "{fields:?}");
        assert!(client.get_with(path, &[("host", "other.example")]).await.is_hit());
        assert!(client.get_with(path, &[SHOP]).await.is_stored(), "{fields:?}");
    }
    let unknown = client.send(Method::POST, "/purge/unknown", &[SHOP]).await;
    assert_eq!((unknown.status.as_u16(), unknown.text()), (500, ""));
}

#[actix_web::test]
async fn variant_purge_keeps_other_variants() {
    let policy = Policy::new().key_header("x-tenant").vary_cookie("theme");
    for (case, policy, tenant) in
        [("plain key", Policy::new(), false), ("key with parts", policy, true)]
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
                let target =
                    PurgeTarget::url("http://shop.example/page").variant(purged.iter().copied());
                let purged_count = match expire {
                    true => cache.handle().expire(target).await.unwrap(),
                    false => cache.handle().purge(target).await.unwrap(),
                };
                assert_eq!(purged_count.responses, Some(1), "{case} {purged:?}, expire: {expire}");
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
    let target = PurgeTarget::url("http://shop.example/page");
    cache.handle().purge(target.clone().variant([("x-lang", "fr")])).await.unwrap();
    assert!(
        !get(&client, "/page", &de).await.is_hit(),
        "a custom key part cannot be derived, so all variants are purged"
    );
    let invalid = cache.handle().purge(target.variant([("a b", "c")])).await;
    assert!(matches!(invalid, Err(PurgeError::Field(_))), "{invalid:?}");
}

#[actix_web::test]
async fn variant_of_a_target_without_url_is_refused() {
    let (cache, _server, client) = build(Policy::new().tag("all"));
    get(&client, "/page", &[]).await;
    for target in [
        PurgeTarget::tag("all"),
        PurgeTarget::prefix("http://shop.example/"),
        PurgeTarget::group("g").on_host("shop.example"),
        PurgeTarget::all(),
    ] {
        let target = target.variant([("x-lang", "de")]);
        for refused in
            [cache.handle().purge(target.clone()).await, cache.handle().expire(target).await]
        {
            assert!(matches!(refused, Err(PurgeError::VariantWithoutUrl)), "{refused:?}");
        }
    }
    assert!(get(&client, "/page", &[]).await.is_hit(), "nothing was purged");
}

#[actix_web::test]
async fn url_purge_on_any_host_reaches_all_hosts() {
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
async fn purge_of_each_target_completes_without_runtime() {
    let (cache, _server, client) = build(Policy::new().tag("all"));
    for target in [
        PurgeTarget::all(),
        PurgeTarget::url("http://shop.example/page"),
        PurgeTarget::url("http://shop.example/page").variant([]),
        PurgeTarget::url("/page").on_any_host(),
        PurgeTarget::path("http://shop.example/page"),
        PurgeTarget::prefix("http://shop.example/"),
        PurgeTarget::tag("all"),
        PurgeTarget::group("g").on_host("shop.example"),
    ] {
        let grouped = [("answer", "cache-groups: \"g\"")];
        get(&client, "/page", &grouped).await;
        let (handle, moved) = (cache.handle(), target.clone());
        let purge = move || futures_util::FutureExt::now_or_never(handle.purge(moved));
        thread::spawn(purge)
            .join()
            .unwrap()
            .expect("a memory store completes at the first poll")
            .unwrap();
        assert!(!get(&client, "/page", &grouped).await.is_hit(), "{target:?}");
    }
}

/// The handler adds no tags to a 304, so the stored ones must stay.
#[actix_web::test]
async fn revalidated_entry_keeps_its_tags() {
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

/// The resource varies on more fields since the variant was stored.
#[actix_web::test]
async fn variant_purge_reaches_the_variant_of_a_former_vary() {
    let by_a: &[_] = &[("a", "1"), ("answer", "vary: a")];
    let by_both: &[_] = &[("a", "2"), ("b", "1"), ("answer", "vary: a, b")];
    for purged in [&[("a", "1")][..], &[("a", "1"), ("b", "1")]] {
        for is_widened in [false, true] {
            let case = format!("{purged:?}, widened: {is_widened}");
            let cache = builder().0.build().unwrap();
            let (app, _) = recording_app(&cache);
            assert!(app.client.get_with("/", &[&[SHOP], by_a].concat()).await.is_stored());
            if is_widened {
                assert!(app.client.get_with("/", &[&[SHOP], by_both].concat()).await.is_stored());
            } else {
                let hit = app.client.get_with("/", &[SHOP, ("a", "1"), ("b", "1")]).await;
                assert!(hit.is_hit(), "{case}: the former variant ignores the other field");
            }
            let target = PurgeTarget::url("http://shop.example/").variant(purged.iter().copied());
            cache.handle().purge(target).await.unwrap();
            for b in [None, Some("1"), Some("2")] {
                let b = b.map(|value| ("b", value));
                let fields: Vec<_> = [SHOP, ("a", "1"), ("answer", "cache-control: no-store")]
                    .into_iter()
                    .chain(b)
                    .collect();
                let answer = app.client.get_with("/", &fields).await;
                assert!(!answer.is_hit() && answer.text() != "run 1", "{case}: {b:?}");
            }
            let kept = app.client.get_with("/", &[SHOP, ("a", "2"), ("b", "1")]).await;
            assert_eq!(kept.is_hit(), is_widened, "{case}: the other variant");
        }
    }
}
