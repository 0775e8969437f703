//! What tells pages apart: nobody gets what was made for another URL, host or form of request.
//!
//! The scheme is part of the key too; without TLS no request here has another than `http`, so the
//! unit tests of the key show that.

use std::net::SocketAddr;

use actix_web::{
    App, HttpRequest, HttpResponse,
    middleware::{Condition, NormalizePath, TrailingSlash},
    web,
};
use actix_web_cache::{Cache, Mode, Policy, QueryKey};
use hyper::Method;

use crate::support::{
    Client, Protocol, SETUPS, Server, builder, cache, obey, raw, secs, serve, site, store,
};

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

/// Answers with the value of one request field.
fn of_field(name: &'static str) -> impl Fn(&HttpRequest, usize) -> HttpResponse + Clone + Send {
    move |request, _| {
        let value = request.headers().get(name).map_or("absent", |value| value.to_str().unwrap());
        HttpResponse::Ok().body(format!("{name}: {value}"))
    }
}

#[actix_web::test]
async fn fields_named_as_part_of_the_key_never_mix() {
    for name in ["x-forwarded-prefix", "x-original-url", "x-rewrite-url", "x-http-method-override"]
    {
        let cache = builder().0.policy(Policy::new().key_header(name)).build().unwrap();
        let site = site(&cache, of_field(name));
        for hit in [false, true] {
            for value in [None, Some(""), Some("/evil"), Some("/evil, /good"), Some("/good")] {
                let fields: Vec<_> = value.iter().map(|value| (name, *value)).collect();
                let answer = site.client.get_with("/", &fields).await;
                let want = format!("{name}: {}", value.unwrap_or("absent"));
                assert_eq!((answer.text(), answer.is_hit()), (want.as_str(), hit));
            }
        }
    }
}

#[actix_web::test]
async fn cookies_and_parts_of_the_application_keep_pages_apart_too() {
    let policy = Policy::new().vary_cookie("lang").key_with("tenant", |request| {
        let tenant = request.headers().get("x-tenant")?.to_str().ok()?;
        Some(tenant.to_ascii_lowercase())
    });
    let cache = builder().0.policy(policy).build().unwrap();
    let site = site(&cache, |request, run| {
        let of = |name| request.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        HttpResponse::Ok().body(format!("{} {} {run}", of("cookie"), of("x-tenant")))
    });
    let requests: [&[(&str, &str)]; 7] = [
        &[],
        &[("cookie", "lang=de")],
        &[("cookie", "lang=fr")],
        &[("cookie", "lang=")],
        &[("x-tenant", "acme")],
        &[("x-tenant", "")],
        &[("x-tenant", "acme"), ("cookie", "lang=de")],
    ];
    let mut first = Vec::new();
    for fields in requests {
        first.push(site.client.get_with("/", fields).await);
    }
    for (fields, first) in requests.iter().zip(&first) {
        let again = site.client.get_with("/", fields).await;
        assert!(again.is_hit() && again.body == first.body, "{fields:?}: {again:?}");
    }
    let same = site.client.get_with("/", &[("x-tenant", "ACME")]).await;
    assert_eq!((same.text(), same.is_hit()), ("- acme 5", true), "as the application says");
}

#[actix_web::test]
async fn a_cookie_in_the_key_is_found_however_its_name_is_written() {
    let policy = Policy::new().ignore_cookies(["*"]).vary_cookie("lang");
    let cache = builder().0.policy(policy).build().unwrap();
    let site = site(&cache, |request, _| {
        let cookies = request.cookies().unwrap();
        let all = cookies.iter().filter(|cookie| cookie.name() == "lang");
        let all: Vec<_> = all.map(|cookie| cookie.value().to_owned()).collect();
        HttpResponse::Ok().body(format!("{all:?}"))
    });
    for round in [1, 2] {
        for (cookies, want) in [
            ("theme=dark", "[]"),
            ("lang=de", "[\"de\"]"),
            ("%6Cang=evil", "[\"evil\"]"),
            ("l%61ng=evil; lang=de", "[\"evil\", \"de\"]"),
            ("lang=de; lang=evil", "[\"de\", \"evil\"]"),
            ("lang=de; %6cang=evil", "[\"de\", \"evil\"]"),
            ("lang=evil; lang=de", "[\"evil\", \"de\"]"),
            ("theme=x;lang=de", "[\"de\"]"),
        ] {
            let answer = site.client.get_with("/", &[("cookie", cookies)]).await;
            assert_eq!(answer.text(), want, "{cookies} in round {round}");
        }
    }
}

#[actix_web::test]
async fn what_a_page_was_selected_by_is_compared_name_by_name() {
    let (cache, _) = cache();
    let site = site(&cache, |request, _| {
        let of = |name| {
            let lines = request.headers().get_all(name).map(|line| line.to_str().unwrap());
            lines.collect::<Vec<_>>().join(" & ")
        };
        HttpResponse::Ok()
            .append_header(("vary", "x-tenant, x-user"))
            .append_header(("vary", "accept"))
            .body(format!("{} | {} | {}", of("x-tenant"), of("x-user"), of("accept")))
    });
    let requests: [&[(&str, &str)]; 12] = [
        &[("x-tenant", "acme"), ("x-user", "bob")],
        &[("x-tenant", "acmeb"), ("x-user", "ob")],
        &[("x-user", "acmebob")],
        &[("x-tenant", "acmebob")],
        &[("x-tenant", "acmebob"), ("x-user", "")],
        &[("x-tenant", ""), ("x-user", "acmebob")],
        &[("x-tenant", "acme, x-user: bob")],
        &[("x-tenant", "acme"), ("x-user", "bob"), ("accept", "a")],
        &[("x-tenant", "acme"), ("x-user", "bob"), ("accept", "A")],
        &[("x-tenant", "bob"), ("x-user", "acme")],
        &[("x-tenant", "acme"), ("x-tenant", "bob")],
        &[],
    ];
    let mut first = Vec::new();
    for fields in requests {
        let answer = site.client.get_with("/", fields).await;
        assert!(answer.is_stored(), "{fields:?}: {answer:?}");
        first.push(answer);
    }
    for (fields, first) in requests.iter().zip(&first) {
        let again = site.client.get_with("/", fields).await;
        assert!(again.is_hit() && again.body == first.body, "{fields:?}: {again:?}");
    }
}

#[actix_web::test]
async fn an_origin_that_is_reflected_reaches_that_origin_alone() {
    let (cache, _) = cache();
    let site = site(&cache, |request, _| {
        let origin = request.headers().get("origin").map_or("null", |o| o.to_str().unwrap());
        HttpResponse::Ok()
            .append_header(("vary", "Origin"))
            .append_header(("access-control-allow-origin", origin))
            .finish()
    });
    for round in 1..=2 {
        for origin in ["https://a.example", "https://b.example"] {
            let answer = site.client.get_with("/", &[("origin", origin)]).await;
            let allowed = answer.field("access-control-allow-origin");
            assert_eq!((allowed.as_deref(), answer.is_hit()), (Some(origin), round == 2));
        }
    }
}

#[actix_web::test]
async fn a_fragment_on_the_wire_is_seen_by_nobody() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    let with = wire(server.addr, "/a#/_payload.json", &["Host: good"], "");
    assert!(body(&with).starts_with("/a None "), "{with}");
    let without = client.get_with("/a", &[("host", "good")]).await;
    assert!(without.is_hit() && without.text() == body(&with));
}

/// Answers with a parameter as actix reads it.
fn callback(request: &HttpRequest, _: usize) -> HttpResponse {
    let parameters = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let values: Vec<_> = parameters
        .unwrap()
        .into_inner()
        .into_iter()
        .filter_map(|(name, value)| (name == "callback").then_some(value))
        .collect();
    HttpResponse::Ok().body(format!("callback: {values:?}"))
}

#[actix_web::test]
async fn parameters_that_do_not_count_hide_none_that_does() {
    let policy =
        Policy::new().query(QueryKey::ignoring(QueryKey::tracking_parameters()).then_sorted());
    let cache = builder().0.policy(policy).build().unwrap();
    let cached = site(&cache, callback);
    let off = builder().0.mode(Mode::Off).build().unwrap();
    let uncached = site(&off, callback);
    let queries = [
        "",
        "?utm_content=x;callback=evil",
        "?callback=ok&utm_content=x",
        "?callback=ok",
        "?callback=ok;utm_content=x",
        "?utm_content=x%26callback=evil",
        "?utm_content=x&callback=evil",
        "?utm%5Fcontent=x&callback=evil",
        "?%63allback=encoded",
        "?callback%00=evil",
        "?callback=a&callback=b",
        "?callback=b&callback=a",
        "?callback=b&x=1&callback=a",
        "?&callback=ok&",
        "?utm_content&callback",
        "?callback=a+b",
        "?callback=a%2Bb",
    ];
    for _ in 0..2 {
        for query in queries {
            let path = format!("/{query}");
            let answer = cached.client.get(&path).await;
            assert_eq!(answer.text(), uncached.client.get(&path).await.text(), "{query}");
        }
    }
    for (query, like) in [
        ("?utm_content=x;callback=evil", ""),
        ("?utm_source=1&callback=ok", "?callback=ok"),
        ("?gclid=1&b=2&a=1", "?a=1&b=2"),
    ] {
        cached.client.get(&format!("/s{like}")).await;
        assert!(cached.client.get(&format!("/s{query}")).await.is_hit(), "{query}");
    }
}

#[actix_web::test]
async fn the_order_of_parameters_does_not_count_where_the_application_says_so() {
    let policy = Policy::new().query(QueryKey::sorted());
    let cache = builder().0.policy(policy).build().unwrap();
    let site = site(&cache, obey);
    for (query, hit) in [
        ("?a=1&b=2", false),
        ("?b=2&a=1", true),
        ("?a=1&a=2", false),
        ("?a=2&a=1", false),
        ("?a=12", false),
        ("?a=1&b=2&", false),
    ] {
        assert_eq!(site.client.get(&format!("/{query}")).await.is_hit(), hit, "{query}");
    }
}

#[actix_web::test]
async fn a_request_with_a_body_is_neither_looked_up_nor_stored() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            let echo = async |body: web::Bytes| HttpResponse::Ok().body(body);
            App::new().wrap(cache.clone()).default_service(web::to(echo))
        });
        let client = Client::new(server.addr, protocol);
        for stored in [false, true] {
            let fat = client.send_body(Method::GET, "/", &[], "lang=evil").await.unwrap();
            assert_eq!(fat.text(), "lang=evil", "{protocol:?}");
            assert!(!fat.is_hit() && !fat.is_stored(), "{protocol:?}: {}", fat.cache_status());
            let clean = client.get("/").await;
            assert_eq!((clean.text(), clean.is_hit()), ("", stored), "{protocol:?}");
        }
        let chunked = ["Host: a", "Transfer-Encoding: chunked"];
        let answer = wire(server.addr, "/", &chunked, "4\r\nevil\r\n0\r\n\r\n");
        assert!(answer.contains("fwd=bypass; detail=request-body"), "{answer}");
    }
}

#[actix_web::test]
async fn namespaces_in_one_store_never_meet() {
    let store = store();
    let names = ["app", "app1", "1:x", "app:1", "app,", "3:app,", "APP"];
    let sites = names.map(|name| {
        let cache = Cache::builder(store.clone()).namespace(name).build().unwrap();
        site(&cache, move |_, _| HttpResponse::Ok().body(name))
    });
    for hit in [false, true] {
        for (name, site) in names.iter().zip(&sites) {
            for path in ["/", "/1:x", "/app"] {
                let answer = site.client.get_with(path, &[("host", "x")]).await;
                assert_eq!((answer.text(), answer.is_hit()), (*name, hit), "{path}");
            }
        }
    }
}

#[actix_web::test]
async fn no_ending_of_a_path_makes_a_page_storable() {
    let careful = builder().0.policy(Policy::new().explicit_only()).build().unwrap();
    for (cache, cookie) in [(careful, None), (cache().0, Some(("cookie", "sid=1")))] {
        let server = serve(1, move || {
            App::new().wrap(cache.clone()).route("/account{tail:.*}", web::get().to(async || "own"))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for tail in
            ["", "/x.css", "%2fx.css", ";x.css", "%0ax.css", "/..%2fx.css", "%3Fx.js", "?x.png"]
        {
            for _ in 0..2 {
                let fields: Vec<_> = cookie.into_iter().collect();
                let answer = client.get_with(&format!("/account{tail}"), &fields).await;
                assert_eq!((answer.text(), answer.is_hit()), ("own", false), "{tail}");
                assert!(!answer.is_stored(), "{tail}");
            }
        }
    }
}

#[actix_web::test]
async fn a_page_that_only_says_when_it_changed_is_given_no_lifetime_by_that() {
    let said = [("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT")];
    let careful = builder().0.policy(Policy::new().explicit_only()).build().unwrap();
    for (cache, want) in [(careful, "fwd=uri-miss; detail=no-lifetime"), (cache().0, "hit; ttl=60")]
    {
        let site = site(&cache, obey);
        site.client.get_with("/", &said).await;
        assert_eq!(site.client.get_with("/", &said).await.cache_status(), want);
    }
}

#[actix_web::test]
async fn spellings_of_one_route_are_pages_of_their_own_and_each_is_purged_by_its_own() {
    let (cache, _) = cache();
    let around = cache.clone();
    let server = serve(1, move || {
        App::new()
            .wrap(around.clone())
            .route("/a/b", web::get().to(async |request: HttpRequest| request.path().to_owned()))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let spellings = ["/a/b", "/%61/b", "/a/%62"];
    for hit in [false, true] {
        for path in spellings {
            let answer = client.get(path).await;
            assert_eq!((answer.text(), answer.is_hit()), (path, hit));
        }
    }
    for path in spellings {
        let url = format!("http://{}{path}", server.addr);
        assert_eq!(cache.handle().purge_url(url).await.unwrap().responses, 1, "{path}");
        assert!(!client.get(path).await.is_hit(), "{path}");
    }
}

#[actix_web::test]
async fn paths_are_normalised_for_the_key_by_what_is_outside_of_the_cache_alone() {
    for outside in [true, false] {
        let (cache, _) = cache();
        let server = serve(1, move || {
            let page = web::get().to(async |request: HttpRequest| request.path().to_owned());
            let normalise = || NormalizePath::new(TrailingSlash::Trim);
            App::new()
                .route("/a/b", page)
                .wrap(Condition::new(!outside, normalise()))
                .wrap(cache.clone())
                .wrap(Condition::new(outside, normalise()))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for (path, hit) in [("/a/b", false), ("/a//b", outside), ("/a/b/", outside), ("/a/b", true)]
        {
            let answer = client.get(path).await;
            assert_eq!((answer.text(), answer.is_hit()), ("/a/b", hit), "{path} {outside}");
        }
    }
}

#[actix_web::test]
async fn made_up_paths_that_are_not_found_are_not_stored_unless_someone_says_so() {
    let patient = builder().0.policy(Policy::new().status_ttl(404, secs(5))).build().unwrap();
    for (cache, says_so) in [(cache().0, false), (patient, true)] {
        let server =
            serve(1, move || App::new().wrap(cache.clone()).route("/", web::get().to(async || "")));
        let client = Client::new(server.addr, Protocol::Http1);
        for n in 0..20 {
            let path = format!("/random-{n}");
            let answer = client.get(&path).await;
            assert_eq!((answer.status.as_u16(), answer.is_stored()), (404, says_so));
            assert_eq!(client.get(&path).await.is_hit(), says_so);
        }
    }
}
