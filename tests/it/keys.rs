//! What tells pages apart: nobody gets what was made for another URL, host or form of request.
//!
//! The scheme is part of the key too; without TLS no request here has another than `http`, so the
//! unit tests of the key show that.

use std::net::SocketAddr;

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, Mode};

use crate::support::{Client, Protocol, Server, builder, cache, obey, raw, serve, site};

/// One request as it stands on the wire, on a connection of its own.
fn wire(addr: SocketAddr, target: &str, fields: &[&str], body: &str) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let request = format!("GET {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n{body}");
    String::from_utf8_lossy(&raw(addr, request.as_bytes())).into_owned()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Serves what a page could be made of: each part of the target and each way to ask for the host.
fn echo(request: &HttpRequest, _: usize) -> HttpResponse {
    let connection = request.connection_info();
    let (host, scheme) = (connection.host(), connection.scheme());
    let link = request.url_for_static("page").map(|url| url.to_string());
    let sent = request.headers().get("host").map(|host| String::from_utf8_lossy(host.as_bytes()));
    HttpResponse::Ok().body(format!(
        "{} {:?} {host} {scheme} {link:?} {sent:?} {:?}",
        request.path(),
        request.uri().query(),
        request.uri().authority(),
    ))
}

/// The echo behind a cache, with a route to make links to.
fn echo_site(cache: &Cache) -> (Server, Client) {
    let cache = cache.clone();
    let server = serve(1, move || {
        let page = || web::to(async |request| echo(&request, 1));
        App::new()
            .wrap(cache.clone())
            .service(web::resource("/page").name("page").route(page()))
            .default_service(page())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    (server, client)
}

#[actix_web::test]
async fn every_host_path_and_query_has_a_page_of_its_own() {
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
        "/%78",
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
    let mut pages = Vec::new();
    for host in hosts {
        for target in targets {
            let answer = client.get_with(target, &[("host", host)]).await;
            assert_eq!(answer.cache_status(), "fwd=uri-miss; stored", "{host}{target}");
            pages.push((host, target, answer.body));
        }
    }
    for (host, target, page) in pages {
        let answer = client.get_with(target, &[("host", host)]).await;
        assert!(answer.is_hit() && answer.body == page, "{host}{target}: {answer:?}");
    }
}

#[actix_web::test]
async fn a_host_is_one_in_any_case_and_with_or_without_the_default_port() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    for (host, hit) in [
        ("Example.COM", false),
        ("example.com", true),
        ("EXAMPLE.com:80", true),
        ("example.com:443", false),
        ("example.com:8080", false),
    ] {
        assert_eq!(site.client.get_with("/", &[("host", host)]).await.is_hit(), hit, "{host}");
    }
}

#[actix_web::test]
async fn odd_hosts_have_pages_of_their_own_or_none_and_break_nothing() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    let hosts =
        ["", "a b", "a,b", "x/../y", "a@b", "[::1", "a:b:c", "é", "a?b#c", "good", "\"good\""];
    for host in hosts {
        let field = format!("Host: {host}");
        let first = wire(server.addr, "/page", &[&field], "");
        assert!(first.starts_with("HTTP/1.1 "), "{host:?}: {first}");
        if first.starts_with("HTTP/1.1 200") {
            assert!(!first.contains("; hit"), "{host:?} is given what was another's: {first}");
            let second = wire(server.addr, "/page", &[&field], "");
            assert_eq!(body(&second), body(&first), "{host:?}");
        }
    }
    assert!(client.get_with("/page", &[("host", "good")]).await.is_hit(), "the worker lives");
}

#[actix_web::test]
async fn a_target_in_absolute_form_that_names_another_host_is_not_cached() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    for target in
        ["http://evil/page", "http://evil:80/page", "http://evil@good/page", "http://good:81/page"]
    {
        for _ in 0..2 {
            let answer = wire(server.addr, target, &["Host: good"], "");
            assert!(answer.contains("fwd=bypass; detail=host"), "{target}: {answer}");
        }
    }
    let clean = client.get_with("/page", &[("host", "good")]).await;
    assert!(!clean.is_hit() && !clean.text().contains("evil"), "{clean:?}");
    let same = wire(server.addr, "http://GOOD/page", &["Host: good"], "");
    assert!(same.contains("; hit"), "the same host in another form: {same}");
}

#[actix_web::test]
async fn in_http_2_a_host_field_beside_another_authority_is_not_cached() {
    let (cache, _) = cache();
    let (server, _) = echo_site(&cache);
    let client = Client::new(server.addr, Protocol::Http2);
    let answer = client.get_with("/page", &[("host", "evil")]).await;
    assert_eq!(answer.cache_status(), "fwd=bypass; detail=host");
    let clean = client.get("/page").await;
    assert!(!clean.is_hit() && !clean.text().contains("evil"), "{clean:?}");
}

/// Requests that make actix see another host or scheme than the clean one.
const CLAIMS: &[(&str, &[&str])] = &[
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
async fn what_a_request_claims_of_host_and_scheme_reaches_no_clean_request() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    for order in ["claim first", "claim last"] {
        for (target, claims) in CLAIMS {
            let case = format!("{target} {claims:?} {order}");
            let fields: Vec<_> = ["Host: good"].iter().chain(*claims).copied().collect();
            let claim = || body(&wire(server.addr, target, &fields, "")).to_owned();
            let before = (order == "claim first").then(claim);
            let clean = client.get_with("/page", &[("host", "good")]).await;
            let after = claim();
            let want = "/page None good http Ok(\"http://good/page\") Some(\"good\") None";
            assert_eq!(clean.text(), want, "{case}");
            assert_ne!(after, want, "{case}: it sees what it asked for");
            assert!(before.is_none_or(|before| before == after), "{case}");
            let again = client.get_with("/page", &[("host", "good")]).await;
            assert!(again.is_hit() && again.body == clean.body, "{case}: {again:?}");
            cache.handle().purge_all().await.unwrap();
        }
    }
}

#[actix_web::test]
async fn what_one_request_claims_of_host_and_scheme_reaches_no_other_that_claims() {
    let (cache, off) = (cache().0, builder().0.mode(Mode::Off).build().unwrap());
    let (server, _) = echo_site(&cache);
    let (uncached, _) = echo_site(&off);
    for round in ["first", "second"] {
        for (target, claims) in CLAIMS {
            let fields: Vec<_> = ["Host: good"].iter().chain(*claims).copied().collect();
            let answer = wire(server.addr, target, &fields, "");
            let own = wire(uncached.addr, target, &fields, "");
            assert_eq!(body(&answer), body(&own), "{target} {claims:?} in the {round} round");
        }
    }
}
