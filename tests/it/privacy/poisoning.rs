//! Cache poisoning: request fields that change the response but are not in the cache key must not
//! affect requests without those fields.

use actix_web::{App, HttpRequest, HttpResponse, cookie::Cookie, web};
use actix_web_cache::Policy;
use http_body_util::Empty;
use hyper::{Method, Request};

use crate::support::{Client, Protocol, Server, body_over_http2, builder, cache, raw, serve};

const PLAIN_BODY: &str = "http://good.example/target good.example http";

/// Returns all that a response could take from forwarded fields: a link, the host and the scheme.
async fn links(request: HttpRequest) -> String {
    let link = request.url_for_static("target").map(String::from).unwrap_or_default();
    let info = request.connection_info();
    format!("{link} {} {}", info.host(), info.scheme())
}

fn serve_links() -> Server {
    let (cache, _) = cache();
    serve(2, move || {
        App::new()
            .wrap(cache.clone())
            .route("/links", web::get().to(links))
            .service(web::resource("/target").name("target").route(web::get().to(|| async { "" })))
    })
}

/// Sends a request head and returns the body and the `Cache-Status` of the response.
fn send(server: &Server, head: &str) -> (String, String) {
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    let response = String::from_utf8(raw(server.addr, request.as_bytes())).unwrap();
    let (fields, body) = response.split_once("\r\n\r\n").unwrap();
    let prefix = "cache-status: actix-web-cache; ";
    let status = fields.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default();
    (body.to_owned(), status.to_owned())
}

const PLAIN: &str = "GET /links HTTP/1.1\r\nHost: good.example";

#[actix_web::test]
async fn forwarded_fields_do_not_poison_links() {
    for fields in [
        "X-Forwarded-Host: evil",
        "x-forwarded-host: good.example, evil",
        "X-Forwarded-Host: evil\r\nX-Forwarded-Host: good.example",
        "X-Forwarded-Proto: evil",
        "X-Forwarded-Proto: evil\r\nX-Forwarded-Host: evil",
        "Forwarded: host=evil",
        "Forwarded: for=1.2.3.4;host=evil",
        "Forwarded: for=1.2.3.4, HOST=evil",
        "Forwarded: for=1.2.3.4; Host = \"evil\"",
        "Forwarded: for=1.2.3.4\r\nForwarded: proto=evil",
        "Forwarded: proto=evil;host=evil",
        // actix-web splits inside of quoted strings and finds a host.
        "Forwarded: for=\"1.2.3.4;host=evil\"",
        "Forwarded: for=\"1.2.3.4,host=evil\"",
        "Forwarded: for=\"1.2.3.4, proto=evil",
        "Forwarded: by=\"\\\"\";host=evil",
        "Forwarded: for=\"a\\\";proto=evil;\\\"\"",
        "Forwarded: \u{fc}\r\nForwarded: host=evil",
        "Forwarded: host=evil\r\nForwarded: host=other;by=\u{fc}",
    ] {
        let server = serve_links();
        let (poisoned, _) = send(&server, &format!("{PLAIN}\r\n{fields}"));
        let (body, status) = send(&server, PLAIN);
        assert_eq!(body, PLAIN_BODY, "after {fields}, which got {poisoned}");
        assert_eq!(status, "fwd=uri-miss; stored", "{fields}");
        // The reverse holds too: the plain response does not replace the poisoned one.
        assert_eq!(send(&server, &format!("{PLAIN}\r\n{fields}")).0, poisoned, "{fields}");
        assert_eq!(
            send(&server, PLAIN),
            (PLAIN_BODY.to_owned(), "hit; ttl=60".to_owned()),
            "{fields}"
        );
    }
}

#[actix_web::test]
async fn absolute_form_target_does_not_poison_origin_form() {
    for head in [
        "GET http://good.example/links HTTP/1.1\r\nHost: good.example",
        "GET evil://good.example/links HTTP/1.1\r\nHost: good.example",
        "GET https://good.example/links HTTP/1.1\r\nHost: good.example",
        "GET http://evil/links HTTP/1.1\r\nHost: good.example",
        "GET http://good.example/links HTTP/1.1\r\nHost: evil",
        "GET http://evil@good.example/links HTTP/1.1\r\nHost: good.example",
        "GET http://good.example:80/links HTTP/1.1\r\nHost: good.example",
        "GET /links HTTP/1.1\r\nHost: good.example.",
    ] {
        let server = serve_links();
        let (poisoned, _) = send(&server, head);
        assert_eq!(send(&server, PLAIN).0, PLAIN_BODY, "after {head}, which got {poisoned}");
        assert_eq!(send(&server, head).0, poisoned, "{head}");
        assert_eq!(
            send(&server, PLAIN),
            (PLAIN_BODY.to_owned(), "hit; ttl=60".to_owned()),
            "{head}"
        );
    }
}

/// Sends a GET over HTTP/2 whose `:scheme` may be any.
async fn get_over_http2(server: &Server, uri: &str, fields: &[(&str, &str)]) -> String {
    let request = Request::builder().method(Method::GET).uri(uri);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    body_over_http2(server, request.body(Empty::new()).unwrap()).await
}

#[actix_web::test]
async fn http2_scheme_and_host_do_not_poison_other_requests() {
    for (uri, fields) in [
        ("https://good.example/links", &[][..]),
        ("http://good.example/links", &[("host", "evil")]),
        ("http://evil/links", &[("host", "good.example")]),
    ] {
        let server = serve_links();
        let poisoned = get_over_http2(&server, uri, fields).await;
        assert_eq!(
            get_over_http2(&server, "http://good.example/links", &[]).await,
            PLAIN_BODY,
            "{uri}"
        );
        assert_eq!(get_over_http2(&server, uri, fields).await, poisoned, "{uri}");
        assert_eq!(
            send(&server, PLAIN),
            (PLAIN_BODY.to_owned(), "hit; ttl=60".to_owned()),
            "{uri}"
        );
    }
}

/// Serves responses that depend on a cookie in the key. Each path reads the cookie with another
/// actix-web function.
fn serve_languages(policy: Policy) -> Server {
    let cache = builder().0.policy(policy).build().unwrap();
    let page = |language: Option<Cookie<'static>>| {
        let text = language.map_or_else(|| "en".to_owned(), |cookie| cookie.value().to_owned());
        HttpResponse::Ok().insert_header(("cache-control", "public")).body(text)
    };
    let is_language = |cookie: &&Cookie<'static>| cookie.name() == "lang";
    let decoded = move |request: HttpRequest| async move { page(request.cookie("lang")) };
    let raw = move |request: HttpRequest| async move {
        page(request.cookies_raw().ok().and_then(|all| all.iter().find(is_language).cloned()))
    };
    let last = move |request: HttpRequest| async move {
        page(request.cookies_raw().ok().and_then(|all| all.iter().rfind(is_language).cloned()))
    };
    serve(1, move || {
        App::new()
            .wrap(cache.clone())
            .route("/decoded", web::get().to(decoded))
            .route("/raw", web::get().to(raw))
            .route("/last", web::get().to(last))
    })
}

/// A cookie that the cache and the handler read differently would poison the entry of another
/// value.
#[actix_web::test]
async fn key_cookie_is_parsed_as_handler_parses_it() {
    let attacks: [&[u8]; 9] = [
        b"%6Cang=fr",
        b"%6cang=fr; lang=de",
        b"lang=fr; lang=de",
        b"\xc2\xa0lang=fr; lang=de",
        b"lang=de; _ga=\xff",
        b"_ga=\xff",
        b"lang=de; junk",
        b"lang=%FF; lang=de",
        b"lang=\"fr\"",
    ];
    for policy in [
        Policy::new().vary_cookie("lang"),
        Policy::new().vary_cookie("lang").ignore_cookies(["_ga", "j*"]),
        Policy::new().vary_cookie("lang").ignore_cookies(["*"]),
    ] {
        for (attack, path) in
            attacks.into_iter().flat_map(|a| ["decoded", "raw", "last"].map(|p| (a, p)))
        {
            let server = serve_languages(policy.clone());
            let head = format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: ");
            raw(server.addr, &[head.as_bytes(), attack, b"\r\n\r\n"].concat());
            let client = Client::new(server.addr, Protocol::Http1);
            let host = ("host", "a");
            for (fields, want) in [
                (&[host][..], "en"),
                (&[host, ("cookie", "lang=de")], "de"),
                (&[host, ("cookie", "lang=fr")], "fr"),
            ] {
                let got = client.get_with(&format!("/{path}"), fields).await;
                let after = attack.escape_ascii();
                assert_eq!(got.text(), want, "{fields:?} after {after}, read {path}");
            }
        }
    }
}
