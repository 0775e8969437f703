//! Malformed and extreme requests, responses and settings: the cache answers as the application
//! alone would, and the worker continues.

use std::{future::ready, net::SocketAddr, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, http::header::HeaderValue, web};
use actix_web_cache::{
    Cache, CacheOptions, MemoryStore, Policy, QueryKey, Rule, store::Store as _,
};

use crate::support::{Client, Protocol, Wire, builder, fills_ended, serve, store};

/// A cache whose policy and rules read as much of a request as they can.
fn inspecting_cache() -> Cache {
    let policy = Policy::rfc9111()
        .default_ttl(Duration::from_secs(60))
        .query(QueryKey::sorted())
        .ignore_cookies(["_ga*"])
        .vary_cookie("lang")
        .key_header("x-tenant");
    let rules = [
        Rule::pattern("/posts/{id}").with(|policy| policy.default_ttl(Duration::from_secs(5))),
        Rule::prefix("/x").with(|policy| policy.query(QueryKey::only(["q"]))),
        Rule::regex("/caf.*").with(|policy| policy.default_ttl(Duration::from_secs(5))),
    ];
    builder().0.policy(policy).rules(rules).build().unwrap()
}

async fn echo(request: HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header(("vary", "x-varied")).insert_header(("etag", "\"e\""));
    response.body(format!("{} {}", request.uri(), request.match_info().as_str()))
}

/// Returns status and body of the response, or `None` if the connection ends without one.
fn send(addr: SocketAddr, request: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut wire = Wire::open(addr);
    wire.send_anyway(request);
    wire.receive_or_end().map(|message| (message.status, message.body))
}

#[actix_web::test]
async fn malformed_target_is_answered_as_without_cache() {
    let uncached = serve(1, || App::new().default_service(web::to(echo)));
    let cache = inspecting_cache();
    let handle = cache.handle();
    let server = serve(1, move || App::new().wrap(cache.clone()).default_service(web::to(echo)));
    let long = format!("/{}", "x".repeat(60 * 1024));
    let many = format!("/x?{}", "q&".repeat(20 * 1024));
    let targets: [&[u8]; 32] = [
        b"/caf%C3%A9",
        b"/caf\xc3\xa9",
        b"/caf%E9",
        b"/%",
        b"/%zz",
        b"/%2",
        b"/%00",
        b"/%0d%0a",
        b"//",
        b"//t/x",
        b"/./",
        b"/x/../",
        b"/x/..%2f",
        b"/\\",
        b"/|",
        b"/{}",
        b"/posts/%zz",
        b"/posts/%2F",
        b"/;x=1",
        b"/:80",
        b"*",
        b"/?",
        b"/??",
        b"/x?%",
        b"/x?%zz=%&q=%FF",
        b"/?&&=&=",
        b"/?\xff",
        b"http://t/",
        b"http://evil/",
        b"t:80",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for target in targets {
        let case = String::from_utf8_lossy(&target[..target.len().min(40)]).into_owned();
        for method in ["GET", "GET", "HEAD", "POST", "GET", "BREW"] {
            let request =
                [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: t\r\n\r\n"].concat();
            if method == "HEAD" {
                // The response to HEAD has a Content-Length but no body.
                drop(crate::support::raw(
                    server.addr,
                    &[&request[..request.len() - 2], b"Connection: close\r\n\r\n"].concat(),
                ));
                continue;
            }
            let want = send(uncached.addr, &request);
            assert!(want.is_some(), "{case}: the server without a cache does not answer");
            assert_eq!(send(server.addr, &request), want, "{method} {case}");
        }
        // The purge may fail, but must not panic.
        drop(handle.purge_url(format!("http://t{case}")).await);
        drop(handle.purge_url(&*case).await);
    }
    assert_eq!(Wire::open(server.addr).get("/end", "").status, 200);
}

#[actix_web::test]
async fn malformed_request_fields_are_answered() {
    let cache = inspecting_cache();
    let server = serve(1, move || App::new().wrap(cache.clone()).default_service(web::to(echo)));
    let large = 100 * 1024;
    let field = |name: &str, value: &[u8]| [name.as_bytes(), b": ", value, b"\r\n"].concat();
    let repeated =
        |name: &str, piece: &str| field(name, piece.repeat(large / piece.len()).as_bytes());
    let lines: String = (0..94).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let cases = [
        ("96 lines", lines.into_bytes()),
        ("commas", repeated("Cache-Control", ",")),
        ("quotes", repeated("Cache-Control", "\"")),
        ("equal signs", repeated("Cache-Control", "a=")),
        ("directives", repeated("Cache-Control", "max-age=1,")),
        ("an unclosed string", field("Cache-Control", b"max-age=\"1, no-store, \\")),
        ("a large number", field("Cache-Control", b"max-age=99999999999999999999999")),
        ("not a number", field("Cache-Control", b"max-age=abc, min-fresh=-1, max-stale=1.5")),
        ("not text", field("Cache-Control", b"\xff\xfe=\xff")),
        ("entity tags", repeated("If-None-Match", "\"x\", ")),
        ("weak entity tags", repeated("If-None-Match", "W/\"x\",")),
        ("unclosed entity tags", repeated("If-None-Match", "\"")),
        ("not entity tags", field("If-None-Match", b"a, W/, \"\xff")),
        ("not a date", field("If-Modified-Since", b"Thu, 99 Foo 0000 99:99:99 GMT")),
        ("year 0", field("If-Modified-Since", b"Sat, 01 Jan 0000 00:00:00 GMT")),
        ("a leap second", field("If-Modified-Since", b"Sat, 31 Dec 2016 23:59:60 GMT")),
        (
            "two invalid dates",
            [field("If-Modified-Since", b"x"), field("If-Modified-Since", b"y")].concat(),
        ),
        ("cookies", repeated("Cookie", "lang=de; ")),
        ("malformed cookies", field("Cookie", b";;; =;=;=; lang; lang=\"\xff; \t;")),
        ("semicolons", repeated("Cookie", ";")),
        ("forwarded", repeated("Forwarded", "host=a;proto=b,")),
        ("forwarded quotes", repeated("Forwarded", "host=\"")),
        ("forwarded host", field("X-Forwarded-Host", b"a b\xff")),
        ("ranges", repeated("Range", "bytes=0-,")),
        ("a varied field", repeated("X-Varied", "x,")),
        ("a keyed field", repeated("X-Tenant", "ä")),
        ("lines of a keyed field", field("X-Tenant", b"a").repeat(90)),
        ("connection options", repeated("Connection", "x,")),
    ];
    Wire::open(server.addr).get("/", "");
    for (case, fields) in &cases {
        let request = [b"GET / HTTP/1.1\r\nHost: t\r\n", &**fields, b"\r\n"].concat();
        for round in 0..3 {
            let answer = send(server.addr, &request);
            assert_eq!(answer, Some((200, b"/ /".to_vec())), "{case}, round {round}");
        }
        assert!(Wire::open(server.addr).get("/", "").is_hit(), "after {case}");
    }
    let future = "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n";
    assert_eq!(Wire::open(server.addr).get("/", future).status, 304);
    assert_eq!(
        send(server.addr, b"GET / HTTP/1.0\r\n\r\n"),
        Some((200, b"/ /".to_vec())),
        "no host"
    );
    for host in
        [&b""[..], b"a b", b"a,b", b"x/../y", b"[::1", b"a:b:c", b"\xc3\xa4", b"t:99999", b"@"]
    {
        let request = [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
        let post = [b"POST / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
        for request in [&request, &request, &post, &request] {
            let answer = send(server.addr, request);
            assert_eq!(answer, Some((200, b"/ /".to_vec())), "host {:?}", host.escape_ascii());
        }
    }
}

#[actix_web::test]
async fn malformed_response_fields_reach_the_client() {
    let large = 100 * 1024;
    let cases: Vec<(&str, Vec<u8>)> = [
        ("cache-control", "max-age=abc"),
        ("cache-control", "max-age="),
        ("cache-control", "max-age"),
        ("cache-control", "max-age=-1, s-maxage=\"x"),
        ("cache-control", "max-age=1.5"),
        ("cache-control", "max-age=\"60\""),
        ("cache-control", "max-age=99999999999999999999999999"),
        ("cache-control", "=,=;\"\\"),
        ("expires", "0"),
        ("expires", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("expires", "Thu, 99 Foo 0000 99:99:99 GMT"),
        ("date", "yesterday"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("date", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("age", "-1"),
        ("age", "99999999999999999999999999"),
        ("etag", "not quoted"),
        ("last-modified", "never"),
        ("vary", "not a name, *, \","),
        ("vary", ""),
        ("connection", ",,\", ;"),
        ("content-encoding", "?"),
        ("set-cookie", ""),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.as_bytes().to_vec()))
    .chain(
        [",", "\"", "a=", "max-age=1,", "\\"]
            .map(|piece| ("cache-control", piece.repeat(large / piece.len()).into_bytes())),
    )
    .chain(["x,", ",", "\""].map(|piece| ("vary", piece.repeat(large / piece.len()).into_bytes())))
    .chain([("cache-control", b"max-age=60, \xff\xfe".to_vec()), ("etag", b"\"\xff\"".to_vec())])
    .collect();
    for policy in
        [Policy::new(), Policy::rfc9111(), Policy::new().client_ttl(Duration::from_secs(1))]
    {
        let cache = builder().0.policy(policy).build().unwrap();
        let fields = cases.clone();
        let server = serve(1, move || {
            let fields = fields.clone();
            App::new().wrap(cache.clone()).default_service(web::to(move |request: HttpRequest| {
                let index: usize = request.path()[1..].parse().unwrap();
                let (name, value) = &fields[index];
                let value = HeaderValue::from_bytes(value).unwrap();
                ready(HttpResponse::Ok().insert_header((*name, value)).body("page"))
            }))
        });
        for (index, (name, value)) in cases.iter().enumerate() {
            for fields in ["", "", "If-None-Match: \"x\"\r\n", "If-Modified-Since: x\r\n"] {
                let answer = Wire::open(server.addr).get(&format!("/{index}"), fields);
                let value = value[..value.len().min(60)].escape_ascii();
                assert_eq!((answer.status, answer.text()), (200, "page"), "{name}: {value}");
            }
        }
    }
}

/// The response builder of actix refuses such a value, and answers 500.
#[actix_web::test]
async fn line_break_that_a_handler_puts_into_a_field_adds_no_field() {
    for policy in [Policy::new(), Policy::rfc9111()] {
        let store = store();
        let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
        let server = serve(1, move || {
            let echo = |query: web::Query<Vec<(String, String)>>| {
                let (name, value) = query.0.into_iter().next().unwrap();
                let mut response = HttpResponse::Ok();
                response.insert_header(("cache-control", "public, max-age=60"));
                ready(response.insert_header(("x-echo", name + &value)).body("page"))
            };
            App::new().wrap(cache.clone()).default_service(web::to(echo))
        });
        let mut wire = Wire::open(server.addr);
        for target in
            ["/?a%0d%0aset-cookie:%20sid=1", "/?a%0aset-cookie:%20sid=1", "/?a=%00", "/?%0d=%0a"]
        {
            for _ in 0..2 {
                let answer = wire.get(target, "");
                assert_eq!((answer.status, answer.is_hit()), (500, false), "{target}");
                let fields = (answer.lines("set-cookie"), answer.lines("x-echo"));
                assert_eq!(fields, (vec![], vec![]), "{target}");
            }
        }
        fills_ended(store.coordinator()).await;
        assert!(store.is_empty());
        for is_hit in [false, true] {
            let answer = wire.get("/?a", "");
            assert_eq!((answer.is_hit(), answer.line("x-echo")), (is_hit, Some("a")));
        }
    }
}

/// The store refuses entries of more than an eighth of its size.
#[actix_web::test]
async fn huge_selecting_value_does_not_exceed_the_size_of_the_store() {
    const SIZE: usize = 512 * 1024;
    let store = MemoryStore::new(SIZE);
    let cache = Cache::new(store.clone());
    let server = serve(1, move || App::new().wrap(cache.clone()).default_service(web::to(echo)));
    let mut wire = Wire::open(server.addr);
    for (length, is_stored) in [(100 * 1024, false), (80 * 1024, false), (40 * 1024, true)] {
        // More values than the store has room for.
        for n in 0..20 {
            let fields = format!("X-Varied: {n}{}\r\n", "x".repeat(length));
            for round in 0..2 {
                let answer = wire.get(&format!("/{length}/{n}"), &fields);
                let text = format!("/{length}/{n} /{length}/{n}");
                assert_eq!((answer.status, answer.text()), (200, &*text));
                let may_be_hit = is_stored && round == 1;
                // A full store may refuse a new entry.
                if n < 5 || !may_be_hit {
                    assert_eq!(answer.is_hit(), may_be_hit, "{length} {n}: {}", answer.head);
                }
                fills_ended(store.coordinator()).await;
                assert!(store.len() <= 20, "room for at most 12 entries of 40 KiB");
                assert!(store.bytes() <= SIZE as u64, "{} bytes", store.bytes());
            }
        }
    }
}

#[actix_web::test]
async fn maximum_lifetime_is_accepted_everywhere() {
    const FOREVER: Duration = Duration::MAX;
    let plain = || async { "page" };
    let with_options = |cache: CacheOptions| {
        cache.ttl(FOREVER);
        ready("page")
    };
    let policies = [
        Policy::new().default_ttl(FOREVER),
        Policy::new().status_ttl(200, FOREVER),
        Policy::new().default_ttl(FOREVER).client_ttl(FOREVER),
        Policy::new().client_ttl(FOREVER),
    ];
    let rules = [
        None,
        Some(Rule::any().with(|policy| policy.default_ttl(FOREVER))),
        Some(Rule::any().with(|policy| policy.override_ttl(FOREVER))),
        Some(Rule::any().with(|policy| policy.client_ttl(FOREVER))),
    ];
    for (n, policy) in policies.iter().enumerate() {
        for (m, rule) in rules.iter().enumerate() {
            let (builder, clock) = builder();
            let cache = builder.policy(policy.clone()).rules(rule.clone()).build().unwrap();
            let server = serve(1, move || {
                App::new()
                    .wrap(cache.clone())
                    .route("/plain", web::get().to(plain))
                    .route("/options", web::get().to(with_options))
            });
            let client = Client::new(server.addr, Protocol::Http1);
            for path in ["/plain", "/options"] {
                let case = format!("{path} under policy {n} and rule {m}");
                let miss = client.get(path).await;
                assert!(miss.is_stored() && miss.text() == "page", "{case}");
                assert!(client.get(path).await.is_hit(), "{case}");
                clock.advance(Duration::from_secs(10));
                assert!(client.get(path).await.is_hit(), "{case}");
            }
        }
    }
}
