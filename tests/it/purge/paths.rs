//! Purges of one path with every query, by a handle and by unsafe requests.

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{CacheHandle, Policy, PurgeError, PurgeTarget, QueryKey, Rule};
use hyper::Method;

use super::app::SHOP;
use crate::support::{
    Answer, Client, Protocol, TestApp, builder, requested_response, secs, serve, test_app,
};

const PATHS: [&str; 8] = [
    "/search",
    "/search?",
    "/search?q=1",
    "/%73earch?q=2",
    "/search/",
    "/search/1",
    "/searches",
    "/other?q=1",
];

/// The number of `PATHS` that are the path `/search`.
const SAME: usize = 4;

async fn get(app: &TestApp, host: &str, path: &str) -> Answer {
    app.client.get_with(path, &[("host", host)]).await
}

#[actix_web::test]
async fn path_purge_reaches_every_query_of_one_path() {
    // A key part and a normalized query make other cache keys of the same path.
    let rule = Rule::prefix("/search/").with(|policy| policy.query(QueryKey::only(["q"])));
    let policy = Policy::new().key_with("part", |request| Some(request.query_string().to_owned()));
    let cache = builder().0.policy(policy).rule(rule).build().unwrap();
    let app = test_app(&cache, requested_response);
    let hosts = ["shop.example", "other.example"];
    let handle = cache.handle();
    for (target, reached_hosts) in [
        (PurgeTarget::path("/search").on_host("shop.example"), &hosts[..1]),
        (PurgeTarget::path("https://Shop.example/s%65arch"), &hosts[..1]),
        (PurgeTarget::path("http://shop.example:80/search"), &hosts[..1]),
        (PurgeTarget::path("/search").on_any_host(), &hosts),
    ] {
        for host in hosts {
            for path in PATHS {
                get(&app, host, path).await;
                assert!(get(&app, host, path).await.is_hit(), "{path}");
            }
        }
        assert_eq!(handle.purge(target.clone()).await.unwrap().responses, None);
        for host in hosts {
            for (index, path) in PATHS.iter().enumerate() {
                let reached = reached_hosts.contains(&host) && index < SAME;
                let is_hit = get(&app, host, path).await.is_hit();
                assert_eq!(is_hit, !reached, "{target:?}: {path} of {host}");
            }
        }
    }
    let query = handle.purge_path("http://shop.example/search?q=1").await;
    assert!(matches!(query, Err(PurgeError::Url(_))), "{query:?}");
    assert!(matches!(handle.purge_path("/search").await, Err(PurgeError::MissingHost)));
}

#[actix_web::test]
async fn expired_path_is_stale_for_every_query() {
    let policy = Policy::new().stale_if_error(secs(600));
    let cache = builder().0.policy(policy).build().unwrap();
    let app = test_app(&cache, requested_response);
    for path in ["/a?1", "/a?2", "/b"] {
        app.client.get_with(path, &[SHOP]).await;
    }
    cache.handle().expire_path("http://shop.example/a").await.unwrap();
    let failure = [SHOP, ("answer-status", "500")];
    for (path, want) in
        [("/a?1", "hit; fwd=stale"), ("/a?2", "hit; fwd=stale"), ("/b", "hit; ttl=60")]
    {
        let status = app.client.get_with(path, &failure).await.cache_status();
        let is_stale = status.contains("stale");
        assert_eq!(is_stale, want.contains("stale"), "{path}: {status}");
    }
}

#[actix_web::test]
async fn handler_purges_a_path_of_its_host() {
    let (builder, _) = builder();
    let cache = builder.build().unwrap();
    let server = serve(1, move || {
        let page = |request: HttpRequest| async move {
            HttpResponse::Ok().body(request.query_string().to_owned())
        };
        let purge = |cache: CacheHandle| async move {
            cache.purge_path("/page").await?;
            Ok::<_, PurgeError>("purged")
        };
        App::new()
            .route("/purge", web::post().to(purge))
            .route("/page", web::get().to(page))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for host in ["a", "b"] {
        client.get_with("/page?q", &[("host", host)]).await;
    }
    client.send(Method::POST, "/purge", &[("host", "a")]).await;
    for (host, is_hit) in [("a", false), ("b", true)] {
        let answer = client.get_with("/page?q", &[("host", host)]).await;
        assert_eq!(answer.is_hit(), is_hit, "{host}");
    }
}

#[actix_web::test]
async fn unsafe_request_purges_its_path_if_the_policy_says_so() {
    let location = ("answer", "location: /other?q=1");
    for (case, policy, method, fields, reached) in [
        ("default", Policy::new(), "POST", &[SHOP][..], &["/search?q=1"][..]),
        ("path", Policy::new().purge_paths_by_requests(), "PUT", &[SHOP], &PATHS[..SAME]),
        (
            "location",
            Policy::new().purge_paths_by_requests(),
            "POST",
            &[SHOP, location],
            &["/search", "/search?", "/search?q=1", "/%73earch?q=2", "/other?q=1"],
        ),
        (
            "failure",
            Policy::new().purge_paths_by_requests(),
            "POST",
            &[SHOP, ("answer-status", "404")],
            &[],
        ),
        (
            "nothing",
            Policy::new().purge_paths_by_requests().no_purge_by_requests(),
            "POST",
            &[SHOP],
            &[],
        ),
    ] {
        let app = test_app(&builder().0.policy(policy).build().unwrap(), requested_response);
        for path in PATHS {
            get(&app, "shop.example", path).await;
        }
        app.client.send(method.parse().unwrap(), "/search?q=1", fields).await;
        for path in PATHS {
            let is_hit = get(&app, "shop.example", path).await.is_hit();
            assert_eq!(is_hit, !reached.contains(&path), "{case}: {path}");
        }
    }
}

/// The purge of the path would make the stored response to the `POST` invalid, so it is not stored.
#[actix_web::test]
async fn response_to_post_that_purges_its_path_is_not_stored() {
    let policy = Policy::rfc9111().purge_paths_by_requests();
    let app = test_app(&builder().0.policy(policy).build().unwrap(), requested_response);
    let fields = [SHOP, ("answer", "content-location: /"), ("answer", "cache-control: max-age=60")];
    let answer = app.client.send(Method::POST, "/", &fields).await;
    assert_eq!(answer.cache_status(), "fwd=method");
    assert!(!app.client.get_with("/", &[SHOP]).await.is_hit());
}
