//! The cache key separates hosts and the schemes of connections, and a forged host or scheme never
//! reaches another request.

use actix_service::{IntoServiceFactory as _, ServiceFactory as _};
use actix_web::{
    App, HttpRequest,
    dev::{AppConfig, ServiceResponse},
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use actix_web_cache::{CacheHandle, Mode};

use super::echo_app::{body, echo_site, wire};
use crate::support::{Client, Protocol, builder, cache, requested_response, test_app};

#[actix_web::test]
async fn each_host_path_and_query_has_own_entry() {
    let (cache, _) = cache();
    let (_server, client) = echo_site(&cache);
    let targets = [
        "/",
        "/x",
        "/x?",
        "/x?a=1",
        "/x?a=2",
        "/x?b=1&a=1",
        "/x?a=1&b=1",
        "/x/",
        "/X",
        "/x%3Fa=1",
        "/x;a=1",
        "/x//",
        "/?x=/_payload.json",
        "/_payload.json",
        "/x%2Fy",
        "/x/y",
        "/x/./y",
        "/x?a=1&a=2",
        "/x?a=2&a=1",
        "/x?a=%31",
    ];
    let hosts = ["one.example", "two.example", "one.example:8080", "one.example.", "xone.example"];
    let mut responses = Vec::new();
    for host in hosts {
        for target in targets {
            let answer = client.get_with(target, &[("host", host)]).await;
            assert_eq!(answer.cache_status(), "fwd=uri-miss; stored", "{host}{target}");
            responses.push((host, target, answer.body));
        }
    }
    for (host, target, expected) in responses {
        let answer = client.get_with(target, &[("host", host)]).await;
        assert!(answer.is_hit() && answer.body == expected, "{host}{target}: {answer:?}");
    }
}

#[actix_web::test]
async fn host_is_compared_without_case_and_default_port() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    for (host, hit) in [
        ("Example.COM", false),
        ("example.com", true),
        ("EXAMPLE.com:80", true),
        ("example.com:443", false),
        ("example.com:8080", false),
    ] {
        assert_eq!(app.client.get_with("/", &[("host", host)]).await.is_hit(), hit, "{host}");
    }
}

#[actix_web::test]
async fn malformed_hosts_do_not_share_entries() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    let hosts =
        ["", "a b", "a,b", "x/../y", "a@b", "[::1", "a:b:c", "é", "a?b#c", "good", "\"good\""];
    for host in hosts {
        let field = format!("Host: {host}");
        let first = wire(server.addr, "/page", &[&field], "");
        assert!(first.starts_with("HTTP/1.1 "), "{host:?}: {first}");
        if first.starts_with("HTTP/1.1 200") {
            assert!(
                !first.contains("; hit"),
                "{host:?} gets the response of another host: {first}"
            );
            let second = wire(server.addr, "/page", &[&field], "");
            assert_eq!(body(&second), body(&first), "{host:?}");
        }
    }
    assert!(
        client.get_with("/page", &[("host", "good")]).await.is_hit(),
        "the worker still serves"
    );
}

#[actix_web::test]
async fn absolute_form_target_is_bypassed() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    for target in [
        "http://evil/page",
        "http://evil:80/page",
        "http://evil@good/page",
        "http://good:81/page",
        "http://good/page",
    ] {
        for _ in 0..2 {
            let answer = wire(server.addr, target, &["Host: good"], "");
            assert!(answer.contains("fwd=bypass; detail=host"), "{target}: {answer}");
        }
    }
    let plain = client.get_with("/page", &[("host", "good")]).await;
    assert!(!plain.is_hit() && !plain.text().contains("evil"), "{plain:?}");
}

#[actix_web::test]
async fn http2_host_field_with_other_authority_is_bypassed() {
    let (cache, _) = cache();
    let (server, _) = echo_site(&cache);
    let client = Client::new(server.addr, Protocol::Http2);
    let answer = client.get_with("/page", &[("host", "evil")]).await;
    assert_eq!(answer.cache_status(), "fwd=bypass; detail=host");
    let plain = client.get("/page").await;
    assert!(!plain.is_hit() && !plain.text().contains("evil"), "{plain:?}");
}

/// Requests for which actix-web reports another host or scheme than for a plain request.
const FORGED: &[(&str, &[&str])] = &[
    ("/page", &["X-Forwarded-Host: evil"]),
    ("/page", &["X-Forwarded-Host: evil, good"]),
    ("/page", &["X-Forwarded-Host: evil", "X-Forwarded-Host: good"]),
    ("/page", &["X-Forwarded-Host: a b"]),
    ("/page", &["X-Forwarded-Proto: evil"]),
    ("/page", &["X-Forwarded-Proto: javascript"]),
    ("/page", &["X-Forwarded-Host: evil", "X-Forwarded-Proto: https"]),
    ("/page", &["X-Forwarded-Host: good", "X-Forwarded-Proto: https"]),
    ("/page", &["Forwarded: host=evil;proto=ftp"]),
    ("/page", &["Forwarded: for=1.2.3.4, HOST = evil"]),
    ("/page", &["Forwarded: for=1.2.3.4", "Forwarded: proto=evil"]),
    ("/page", &["Forwarded: host=\"evil\""]),
    ("/page", &["Forwarded: for=\"a;host=evil\""]),
    ("/page", &["Forwarded: for=\"a, host=evil\""]),
    ("/page", &["Forwarded: by=\"\\\";proto=evil\""]),
    ("ftp://good/page", &[]),
    ("evil://good/page", &[]),
    ("https://good/page", &[]),
];

#[actix_web::test]
async fn forged_host_or_scheme_does_not_affect_plain_request() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    for order in ["forged first", "forged last"] {
        for (target, forged) in FORGED {
            let case = format!("{target} {forged:?} {order}");
            let fields: Vec<_> = ["Host: good"].iter().chain(*forged).copied().collect();
            let send_forged = || body(&wire(server.addr, target, &fields, "")).to_owned();
            let before = (order == "forged first").then(send_forged);
            let plain = client.get_with("/page", &[("host", "good")]).await;
            let after = send_forged();
            let want = "/page None good http Ok(\"http://good/page\") Some(\"good\") None";
            assert_eq!(plain.text(), want, "{case}");
            assert_ne!(after, want, "{case}: the forged request gets its own response");
            assert!(before.is_none_or(|before| before == after), "{case}");
            let again = client.get_with("/page", &[("host", "good")]).await;
            assert!(again.is_hit() && again.body == plain.body, "{case}: {again:?}");
            cache.handle().purge_all().await.unwrap();
        }
    }
}

#[actix_web::test]
async fn forged_hosts_and_schemes_do_not_mix() {
    let (cache, off) = (cache().0, builder().0.mode(Mode::Off).build().unwrap());
    let (server, _) = echo_site(&cache);
    let (uncached, _) = echo_site(&off);
    for round in ["first", "second"] {
        for (target, forged) in FORGED {
            let fields: Vec<_> = ["Host: good"].iter().chain(*forged).copied().collect();
            let answer = wire(server.addr, target, &fields, "");
            let expected = wire(uncached.addr, target, &fields, "");
            assert_eq!(body(&answer), body(&expected), "{target} {forged:?} in the {round} round");
        }
    }
}

/// The server of the other tests has no certificate. Here, the configuration of the application says
/// whether the connections use TLS.
#[actix_web::test]
async fn secure_and_plain_connections_have_own_entries() {
    let (cache, _) = cache();
    let scheme = async |request: HttpRequest| request.connection_info().scheme().to_owned();
    let service = |secure| {
        let config =
            AppConfig::__priv_test_new(secure, "h".to_owned(), ([127, 0, 0, 1], 80).into());
        let app = App::new().wrap(cache.clone()).route("/", web::get().to(scheme));
        app.into_factory().new_service(config)
    };
    let services =
        [("http", service(false).await.unwrap()), ("https", service(true).await.unwrap())];
    for want in ["fwd=uri-miss; stored", "hit; ttl=60"] {
        for (scheme, service) in &services {
            let request = TestRequest::get().insert_header(("host", "h")).to_request();
            let response = call_service(service, request).await;
            assert_eq!(status(&response), format!("actix-web-cache; {want}"), "{scheme}");
            assert_eq!(read_body(response).await, scheme);
            cache.idle().await;
        }
    }
    let purged = cache.handle().purge_url("http://h/").await.unwrap();
    assert_eq!(purged.responses, Some(2), "a purge of a URL reaches both schemes");
}

fn status<B>(response: &ServiceResponse<B>) -> String {
    response.headers().get("cache-status").unwrap().to_str().unwrap().to_owned()
}

/// Requests of tests, and of HTTP/1.0 clients, have no host. They are for the host of the server.
#[actix_web::test]
async fn requests_without_a_host_are_for_the_host_of_the_server() {
    let (cache, _) = cache();
    let purge = |cache: CacheHandle| async move {
        cache.purge_url("/page").await.map(|purged| purged.responses.unwrap().to_string())
    };
    let app = init_service(
        App::new()
            .wrap(cache.clone())
            .route("/page", web::get().to(|| async { "page" }))
            .route("/page", web::put().to(|| async { "changed" }))
            .route("/purge", web::get().to(purge)),
    )
    .await;
    let get = |path: &str| TestRequest::with_uri(path).to_request();
    for change in [TestRequest::get().uri("/purge"), TestRequest::put().uri("/page")] {
        for want in ["fwd=uri-miss; stored", "hit; ttl=60"] {
            let response = call_service(&app, get("/page")).await;
            assert_eq!(status(&response), format!("actix-web-cache; {want}"));
            assert_eq!(read_body(response).await, "page");
            cache.idle().await;
        }
        // `AppConfig` of the test has this host.
        let same = TestRequest::with_uri("/page").insert_header(("host", "localhost:8080"));
        assert!(status(&call_service(&app, same.to_request()).await).contains("hit"));
        let response = call_service(&app, change.to_request()).await;
        assert!(response.status().is_success());
        read_body(response).await;
    }
    assert!(status(&call_service(&app, get("/page")).await).contains("uri-miss"));
}
