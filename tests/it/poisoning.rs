//! Fields of a request that change the page although no key says so: whoever sends them never
//! changes the page of those who do not.

use actix_web::{App, HttpRequest, HttpResponse, cookie::Cookie, web};
use actix_web_cache::Policy;
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Client, Protocol, Server, builder, cache, raw, serve};

const CLEAN: &str = "http://good.example/target good.example http";

/// A page with a link and what else it could take from where actix looks first.
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

/// Body and Cache-Status of an answer on the wire.
fn ask(server: &Server, head: &str) -> (String, String) {
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(raw(server.addr, request.as_bytes())).unwrap();
    let (fields, body) = answer.split_once("\r\n\r\n").unwrap();
    let prefix = "cache-status: actix-web-cache; ";
    let status = fields.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default();
    (body.to_owned(), status.to_owned())
}

const GOOD: &str = "GET /links HTTP/1.1\r\nHost: good.example";

#[actix_web::test]
async fn fields_that_links_are_made_from_never_reach_a_reader_without_them() {
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
        // actix splits where it should not, and finds a host within a quoted string.
        "Forwarded: for=\"1.2.3.4;host=evil\"",
        "Forwarded: for=\"1.2.3.4,host=evil\"",
        "Forwarded: for=\"1.2.3.4, proto=evil",
        "Forwarded: by=\"\\\"\";host=evil",
        "Forwarded: for=\"a\\\";proto=evil;\\\"\"",
        "Forwarded: \u{fc}\r\nForwarded: host=evil",
    ] {
        let server = serve_links();
        let (poison, _) = ask(&server, &format!("{GOOD}\r\n{fields}"));
        let (body, status) = ask(&server, GOOD);
        assert_eq!(body, CLEAN, "after {fields}, which got {poison}");
        assert_eq!(status, "fwd=vary-miss; stored", "{fields}");
        // Nor the other way round: who asks by another name gets links of that name.
        assert_eq!(ask(&server, &format!("{GOOD}\r\n{fields}")).0, poison, "{fields}");
        assert_eq!(ask(&server, GOOD), (CLEAN.to_owned(), "hit; ttl=60".to_owned()), "{fields}");
    }
}

#[actix_web::test]
async fn a_target_in_absolute_form_never_reaches_a_reader_with_a_plain_one() {
    for head in [
        "GET evil://good.example/links HTTP/1.1\r\nHost: good.example",
        "GET https://good.example/links HTTP/1.1\r\nHost: good.example",
        "GET http://evil/links HTTP/1.1\r\nHost: good.example",
        "GET http://good.example/links HTTP/1.1\r\nHost: evil",
        "GET http://evil@good.example/links HTTP/1.1\r\nHost: good.example",
        "GET http://good.example:80/links HTTP/1.1\r\nHost: good.example",
        "GET /links HTTP/1.1\r\nHost: good.example.",
    ] {
        let server = serve_links();
        let (poison, _) = ask(&server, head);
        assert_eq!(ask(&server, GOOD).0, CLEAN, "after {head}, which got {poison}");
        assert_eq!(ask(&server, head).0, poison, "{head}");
        assert_eq!(ask(&server, GOOD), (CLEAN.to_owned(), "hit; ttl=60".to_owned()), "{head}");
    }
}

#[actix_web::test]
async fn a_target_in_absolute_form_that_says_the_same_shares() {
    let server = serve_links();
    let absolute = "GET http://good.example/links HTTP/1.1\r\nHost: good.example";
    assert_eq!(ask(&server, absolute).0, CLEAN);
    assert_eq!(ask(&server, GOOD).1, "hit; ttl=60");
}

/// A GET whose `:scheme` is chosen freely.
async fn by_http2(server: &Server, uri: &str, fields: &[(&str, &str)]) -> String {
    use http_body_util::{BodyExt as _, Empty};
    let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(Method::GET).uri(uri);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    String::from_utf8(body.to_vec()).unwrap()
}

#[actix_web::test]
async fn neither_scheme_nor_host_of_an_http_2_request_reach_others() {
    for (uri, fields) in [
        ("https://good.example/links", &[][..]),
        ("http://good.example/links", &[("host", "evil")]),
        ("http://evil/links", &[("host", "good.example")]),
    ] {
        let server = serve_links();
        let poison = by_http2(&server, uri, fields).await;
        assert_eq!(by_http2(&server, "http://good.example/links", &[]).await, CLEAN, "{uri}");
        assert_eq!(by_http2(&server, uri, fields).await, poison, "{uri}");
        assert_eq!(ask(&server, GOOD), (CLEAN.to_owned(), "hit; ttl=60".to_owned()), "{uri}");
    }
}

/// Pages that speak the language of a cookie, which is in the key; each reads it in its own way.
fn serve_languages(policy: Policy) -> Server {
    let cache = builder().0.policy(policy).build().unwrap();
    let page = |language: Option<Cookie<'static>>| {
        let text = language.map_or_else(|| "en".to_owned(), |cookie| cookie.value().to_owned());
        HttpResponse::Ok().insert_header(("cache-control", "public")).body(text)
    };
    let is_it = |cookie: &&Cookie<'static>| cookie.name() == "lang";
    let decoded = move |request: HttpRequest| async move { page(request.cookie("lang")) };
    let raw = move |request: HttpRequest| async move {
        page(request.cookies_raw().ok().and_then(|all| all.iter().find(is_it).cloned()))
    };
    let last = move |request: HttpRequest| async move {
        page(request.cookies_raw().ok().and_then(|all| all.iter().rfind(is_it).cloned()))
    };
    serve(1, move || {
        App::new()
            .wrap(cache.clone())
            .route("/decoded", web::get().to(decoded))
            .route("/raw", web::get().to(raw))
            .route("/last", web::get().to(last))
    })
}

#[actix_web::test]
async fn a_cookie_in_the_key_means_to_the_cache_what_it_means_to_the_handler() {
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
