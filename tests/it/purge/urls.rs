//! `CacheHandle::purge_url` and `purge_all`: the entries that they reach and those that they keep.

use actix_web_cache::{Cache, ManualClock, Policy, QueryKey, Rule};
use hyper::Method;

use super::app::{SHOP, serve_purging};
use crate::support::{Client, Protocol, SETUPS, START, Server, builder, cache, store};

type Fields<'a> = &'a [(&'a str, &'a str)];

#[actix_web::test]
async fn url_purge_removes_all_variants_and_nothing_else() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, runs) = serve_purging(workers, &cache);
        let client = Client::new(server.addr, protocol);
        let variants: [Fields<'_>; 3] = [&[("x-lang", "de")], &[("x-lang", "fr")], &[]];
        for fields in variants {
            assert!(client.get_with("/page", fields).await.is_stored());
        }
        for path in ["/page?", "/page?a=1", "/page/", "/Page", "//page", "/"] {
            assert!(client.get(path).await.is_stored(), "{path}");
        }
        let purged = client.send(Method::POST, "/purge", &[("x-url", "/page")]).await;
        assert_eq!(
            (purged.status.as_u16(), purged.text()),
            (200, "3 stored responses"),
            "{protocol:?}"
        );
        let ran = runs.get();
        for fields in variants {
            let head = client.send(Method::HEAD, "/page", fields).await;
            assert!(!head.is_hit(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_stored(), "{fields:?} {protocol:?}");
        }
        assert_eq!(runs.get() - ran, 6);
        for path in ["/page?", "/page?a=1", "/page/", "/Page", "//page", "/"] {
            assert!(client.get(path).await.is_hit(), "{path} {protocol:?}");
        }
        let again = client.send(Method::POST, "/purge", &[("x-url", "/none")]).await;
        assert_eq!(again.text(), "0 stored responses");
    }
}

/// Actix decodes `%65` before it selects a route, so both paths lead to one page.
#[actix_web::test]
async fn percent_encoding_of_unreserved_characters_makes_no_page_of_its_own() {
    let (cache, _) = cache();
    let (server, runs) = serve_purging(2, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    for (first, alias) in [("/page", "/pag%65"), ("/%7euser", "/~user"), ("/%c3%a9", "/%C3%A9")] {
        assert!(client.get(first).await.is_stored(), "{first}");
        let ran = runs.get();
        assert!(client.get(alias).await.is_hit(), "{alias}");
        assert_eq!(runs.get(), ran);
        let purged = client.send(Method::POST, "/purge", &[("x-url", alias)]).await;
        assert_eq!(purged.text(), "1 stored response", "{alias}");
        assert!(client.get(first).await.is_stored(), "{first} again");
    }
}

#[actix_web::test]
async fn relative_url_purges_host_of_the_request() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(2, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    let hosts = ["shop.example", "shop.example:81", "other.example"];
    for host in hosts {
        assert!(client.get_with("/page", &[("host", host)]).await.is_stored());
    }
    let url = ("x-url", "/page");
    assert_eq!(client.send(Method::POST, "/purge", &[SHOP, url]).await.text(), "1 stored response");
    for (host, hit) in hosts.into_iter().zip([false, true, true]) {
        assert_eq!(client.get_with("/page", &[("host", host)]).await.is_hit(), hit, "{host}");
    }
    // Forwarded fields do not choose the host: a client could purge other hosts with them.
    for field in [("x-forwarded-host", "other.example"), ("forwarded", "host=other.example")] {
        assert_eq!(
            client.send(Method::POST, "/purge", &[SHOP, url, field]).await.text(),
            "1 stored response"
        );
        assert!(client.get_with("/page", &[("host", "other.example")]).await.is_hit());
        assert!(client.get_with("/page", &[SHOP]).await.is_stored());
    }
}

#[actix_web::test]
async fn full_url_purges_http_and_https() {
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
        ("https://shop.example/%70age?a=1", true),
        ("https://www.shop.example/page?a=1", false),
        ("https://shop.example.evil/page?a=1", false),
        ("https://evil/shop.example/page?a=1", false),
    ] {
        client.get_with(page, &[SHOP]).await;
        let before = client.get_with(page, &[SHOP]).await;
        assert!(before.is_hit(), "{url}");
        assert_eq!(
            handle.purge_url(url).await.unwrap().responses,
            Some(usize::from(purged)),
            "{url}"
        );
        assert_eq!(!client.get_with(page, &[SHOP]).await.is_hit(), purged, "{url}");
    }
    // A default port of the other scheme is part of the host in the request. A purge that names it
    // applies to both hosts, because the port is the default one for one of the two schemes.
    let port = ("host", "shop.example:443");
    assert!(client.get_with(page, &[port]).await.is_stored());
    assert_eq!(
        handle.purge_url("http://shop.example:443/page?a=1").await.unwrap().responses,
        Some(2)
    );
    assert!(client.get_with(page, &[port]).await.is_stored());
}

#[actix_web::test]
async fn handler_purges_other_host_by_full_url() {
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
            assert_eq!(purged.text(), "1 stored response", "{url} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_stored(), "{url} {protocol:?}");
            assert_eq!(
                client.send(Method::POST, "/purge", &[("x-url", url)]).await.text(),
                "1 stored response"
            );
        }
    }
}

#[actix_web::test]
async fn url_purge_removes_entries_with_all_key_parts() {
    for (protocol, workers) in SETUPS {
        let policy = Policy::new()
            .key_header("x-tenant")
            .vary_cookie("theme")
            .key_with("beta", |request| request.headers().get("x-beta").map(|_| String::new()));
        let cache = builder().0.policy(policy).build().unwrap();
        let (server, _) = serve_purging(workers, &cache);
        let client = Client::new(server.addr, protocol);
        let requests: [Fields<'_>; 6] = [
            &[],
            &[("x-tenant", "acme")],
            &[("x-tenant", "acme"), ("cookie", "theme=dark")],
            &[("cookie", "theme=dark; theme=light"), ("cache-control", "x")],
            &[("x-beta", "1"), ("x-lang", "de")],
            &[("x-tenant", "acme"), ("x-tenant", "b")],
        ];
        // A request with the key cookie twice is stored as well, under a key of its own.
        for fields in requests {
            assert!(client.get_with("/page", fields).await.is_stored(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/other", fields).await.is_stored());
        }
        client.send(Method::POST, "/purge", &[("x-url", "/page")]).await;
        for fields in requests {
            assert!(client.get_with("/other", fields).await.is_hit(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_stored(), "{fields:?} {protocol:?}");
            assert!(client.get_with("/page", fields).await.is_hit(), "stored again: {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn url_purge_normalizes_query_like_the_policy() {
    let cache = builder()
        .0
        .policy(Policy::new().query(QueryKey::sorted()))
        .rule(
            Rule::path("/perhaps")
                .when(|request| request.headers().contains_key("x-q"))
                .with(|policy| policy.query(QueryKey::only(["q"]))),
        )
        .rule(Rule::pattern("/search/{kind}").with(|policy| policy.query(QueryKey::only(["q"]))))
        .rule(Rule::prefix("/news").with(|policy| policy.query(QueryKey::ignoring(["utm_*"]))))
        .build()
        .unwrap();
    let (server, _) = serve_purging(1, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    for (requested, fields, purged) in [
        ("/page?b=1&a=2", &[][..], "/page?a=2&b=1"),
        ("/page", &[], "/page"),
        ("/search/all?q=x&page=2", &[], "/search/all?q=x"),
        ("/search/all?page=2", &[], "/search/all"),
        ("/se%61rch/all?q=y&page=2", &[], "/search/all?page=9&q=y"),
        ("/news/1?utm_source=a&id=1", &[], "/news/1?id=1&utm_medium=b"),
        ("/perhaps?q=1&b=2&a=3", &[], "/perhaps?a=3&q=1&b=2"),
        ("/perhaps?q=1&b=2&a=3", &[("x-q", "1")], "/perhaps?q=1"),
    ] {
        assert!(client.get_with(requested, fields).await.is_stored(), "{requested}");
        let answer = client.send(Method::POST, "/purge", &[("x-url", purged)]).await;
        assert_eq!(answer.text(), "1 stored response", "{requested} by {purged}");
        assert!(client.get_with(requested, fields).await.is_stored(), "{requested} by {purged}");
    }
    assert_eq!(
        client.send(Method::POST, "/purge", &[("x-url", "/page?a=2&b=2")]).await.text(),
        "0 stored responses"
    );
}

/// Serves one application for each cache.
fn serve_each(caches: &[Cache]) -> Vec<(Server, Client)> {
    let serve_one = |cache: &Cache| {
        let (server, _) = serve_purging(1, cache);
        let client = Client::new(server.addr, Protocol::Http1);
        (server, client)
    };
    caches.iter().map(serve_one).collect()
}

#[actix_web::test]
async fn purge_reaches_all_caches_of_the_namespace() {
    let (store, clock) = (store(), ManualClock::at(START));
    let build = |namespace: &str, policy| {
        let cache = Cache::builder(store.clone()).clock(clock.clock());
        cache.namespace(namespace).policy(policy).build().unwrap()
    };
    let purged_caches = [
        build("shop", Policy::new()),
        build("shop", Policy::new().ignore_cookies(["_ga"])),
        build("shop", Policy::new().key_header("x-tenant")),
        build("shop", Policy::new().query(QueryKey::sorted())),
        build("shop", Policy::new().default_ttl(std::time::Duration::from_secs(9))),
    ];
    let child = purged_caches[0].with_policy(Policy::new().vary_cookie("theme"));
    let others = [build("shop2", Policy::new()), build("shop:", Policy::new().vary_cookie("a"))];
    let all: Vec<_> = purged_caches.iter().chain([&child]).chain(&others).cloned().collect();
    let apps = serve_each(&all);
    for purger in 0..purged_caches.len() + 1 {
        for (_, client) in &apps {
            client.get_with("/page?b=1&a=2", &[SHOP]).await;
            assert!(client.get_with("/page?b=1&a=2", &[SHOP]).await.is_hit());
        }
        let url = ("x-url", "/page?b=1&a=2");
        let purged = apps[purger].1.send(Method::POST, "/purge", &[SHOP, url]).await;
        assert_eq!(purged.status, 200);
        for (index, (_, client)) in apps.iter().enumerate() {
            let other = index > purged_caches.len();
            // Caches 0 and 4 have equal keys: a request to cache 0 fills cache 4 as well.
            let hit = client.get_with("/page?b=1&a=2", &[SHOP]).await.is_hit();
            assert!(if other { hit } else { !hit || index == 4 }, "{index} after {purger}");
        }
    }
    // `purge_all` reaches every namespace.
    apps[0].1.send(Method::POST, "/purge", &[SHOP]).await;
    for (index, (_, client)) in apps.iter().enumerate() {
        let hit = client.get_with("/page?b=1&a=2", &[SHOP]).await.is_hit();
        assert!(!hit || index == 4, "{index}");
    }
}

#[actix_web::test]
async fn purge_all_removes_everything_and_allows_new_entries() {
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
