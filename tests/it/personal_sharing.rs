//! Caches that share a store, middlewares outside of the cache, and fields that are for one
//! requester: what is one's own stays so.

use actix_session::{Session, SessionMiddleware, storage::CookieSessionStore};
use actix_web::{
    App, HttpMessage as _, HttpRequest, HttpResponse,
    cookie::Key,
    dev::Service as _,
    http::header::{HeaderName, HeaderValue, SET_COOKIE},
    web,
};
use actix_web_cache::{Cache, ManualClock, Policy, Rule};
use hyper::Method;

use crate::support::{
    Client, Counter, Protocol, Reply, SETUPS, START, Server, cache, secs, serve, serve_replies,
    store,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// One host for several servers.
const HOST: (&str, &str) = ("host", "shop.example");

/// Two applications over one store and namespace, with different policies.
struct Pair {
    one: (Client, Counter),
    other: (Client, Counter),
    clock: ManualClock,
    _servers: [Server; 2],
}

impl Pair {
    fn new(
        one: (Policy, &[Rule]),
        other: (Policy, &[Rule]),
        reply: Fields<'_>,
        status: u16,
    ) -> Self {
        let (store, clock) = (store(), ManualClock::at(START));
        let serve = |(policy, rules): (Policy, &[Rule])| {
            let cache = Cache::builder(store.clone()).clock(clock.clock());
            let cache = cache.policy(policy).rules(rules.iter().cloned()).build().unwrap();
            let (server, runs) = serve_replies(1, &cache, &[Reply::new(status, reply)]);
            let client = Client::new(server.addr, Protocol::Http1);
            (server, (client, runs))
        };
        let ((first, one), (second, other)) = (serve(one), serve(other));
        Self { one, other, clock, _servers: [first, second] }
    }

    /// Whether the other application answers, after some seconds, with what the first stored.
    async fn shares(&self, one: Fields<'_>, seconds: u64, other: Fields<'_>) -> bool {
        let first = self.one.0.get_with("/0", &[&[HOST], one].concat()).await;
        assert!(first.is_stored(), "{}", first.cache_status());
        self.clock.advance(secs(seconds));
        let second = self.other.0.get_with("/0", &[&[HOST], other].concat()).await;
        assert_eq!(self.other.1.get(), usize::from(!second.is_hit()));
        second.is_hit()
    }
}

#[actix_web::test]
async fn caches_over_one_store_judge_for_themselves_what_is_personal() {
    let ignoring = || Policy::new().ignore_cookies(["sid"]);
    let strict = || Policy::new().credentials(["x-session"]);
    let keyed = || Policy::new().key_header("authorization");
    let alice: Fields<'_> = &[("cookie", "sid=alice")];
    let token: Fields<'_> = &[("authorization", "Bearer alice")];
    let session: Fields<'_> = &[("x-session", "alice")];
    for (case, one, first, other, second, want) in [
        ("the same policy", Policy::new(), &[][..], Policy::new(), &[][..], true),
        ("a longer lifetime", Policy::new().default_ttl(secs(600)), &[], Policy::new(), &[], true),
        ("cookies ignored there", ignoring(), alice, Policy::new(), &[], false),
        ("cookies ignored here", Policy::new(), &[], ignoring(), alice, false),
        ("others ignored here", ignoring(), alice, Policy::new().ignore_cookies(["a"]), &[], false),
        ("ignored by both", ignoring(), alice, ignoring(), &[], true),
        ("credentials here alone", Policy::new(), session, strict(), &[], false),
        ("keyed there", keyed(), token, Policy::new(), &[], false),
        ("keyed here", Policy::new(), &[], keyed(), &[], false),
        ("keyed by both", keyed(), token, keyed(), token, true),
        ("keyed by both, another's", keyed(), token, keyed(), &[], false),
    ] {
        let pair = Pair::new((one, &[]), (other, &[]), &[], 200);
        assert_eq!(pair.shares(first, 1, second).await, want, "{case}");
    }
}

#[actix_web::test]
async fn caches_over_one_store_judge_for_themselves_how_long_and_what_is_kept() {
    let plain = || (Policy::new(), &[][..]);
    let long = [Rule::any().override_ttl(secs(3600))];
    let short = [Rule::any().override_ttl(secs(5))];
    let never = [Rule::any().status([404]).bypass()];
    let final_status = || (Policy::rfc9111(), &[][..]);
    let cc = |value| [("cache-control", value)];
    let (five, zero, minute) = (cc("max-age=5"), cc("max-age=0"), cc("max-age=60"));
    let shared = cc("s-maxage=5, max-age=60");
    for (case, one, other, reply, status, seconds, want) in [
        ("as stated", plain(), plain(), &five[..], 200, 4, true),
        ("overridden there, fresh here", (Policy::new(), &long[..]), plain(), &five, 200, 4, true),
        ("overridden there", (Policy::new(), &long), plain(), &five, 200, 5, false),
        ("overridden there, shared", (Policy::new(), &long), plain(), &shared, 200, 5, false),
        ("overridden there, never here", (Policy::new(), &long), plain(), &zero, 200, 0, false),
        ("overridden here", plain(), (Policy::new(), &short), &minute, 200, 4, true),
        ("overridden here, too old", plain(), (Policy::new(), &short), &minute, 200, 5, false),
        ("overridden there, default here", (Policy::new(), &long), plain(), &[], 200, 59, true),
        ("default is over", (Policy::new(), &long), plain(), &[], 200, 60, false),
        ("a status not kept here", final_status(), plain(), &minute, 503, 1, false),
        ("a status kept by both", final_status(), final_status(), &minute, 503, 1, true),
        ("a rule refuses here", plain(), (Policy::new(), &never), &minute, 404, 1, false),
        ("another status", plain(), (Policy::new(), &never), &minute, 410, 1, true),
        (
            "stated lifetimes only",
            plain(),
            (Policy::new().explicit_only(), &[]),
            &[],
            200,
            1,
            false,
        ),
    ] {
        let pair = Pair::new(one, other, reply, status);
        assert_eq!(pair.shares(&[], seconds, &[]).await, want, "{case}");
    }
}

#[actix_web::test]
async fn a_rule_for_some_requests_lends_its_lifetime_to_no_others() {
    let (store, clock) = (store(), ManualClock::at(START));
    let robots = Rule::any().when(|request| request.headers().contains_key("x-robot"));
    let cache = Cache::builder(store).clock(clock.clock()).rule(robots.override_ttl(secs(3600)));
    let reply = Reply::new(200, &[("cache-control", "max-age=0")]);
    let (server, _) = serve_replies(1, &cache.build().unwrap(), &[reply]);
    let client = Client::new(server.addr, Protocol::Http1);
    let robot: Fields<'_> = &[("x-robot", "1")];
    assert!(client.get_with("/0", robot).await.is_stored());
    assert!(client.get_with("/0", robot).await.is_hit());
    assert!(!client.get("/0").await.is_hit(), "to all others it is stale from the start");
}

/// Gives each client a cookie of its own, outside of the cache.
fn serve_outer_cookies(workers: usize) -> Server {
    let (cache, _) = cache();
    let visitors = Counter::default();
    serve(workers, move || {
        let visitors = visitors.clone();
        App::new()
            .wrap(cache.clone())
            .wrap_fn(move |request, service| {
                let sid = format!("sid={}", visitors.count());
                let answer = service.call(request);
                async move {
                    let mut answer = answer.await?;
                    answer.headers_mut().append(SET_COOKIE, HeaderValue::from_str(&sid).unwrap());
                    Ok(answer)
                }
            })
            .route("/", web::get().to(|| async { "page" }))
    })
}

#[actix_web::test]
async fn a_cookie_set_outside_of_the_cache_is_not_in_the_store() {
    for (protocol, workers) in SETUPS {
        let server = serve_outer_cookies(workers);
        let client = Client::new(server.addr, protocol);
        for n in 1..4 {
            let answer = client.get("/").await;
            assert_eq!(answer.is_hit(), n > 1);
            assert_eq!(answer.field("set-cookie"), Some(format!("sid={n}")), "{protocol:?}");
        }
    }
}

#[actix_web::test]
async fn a_session_outside_of_the_cache_stays_its_owners() {
    let (cache, _) = cache();
    let key = Key::from(&[7; 64]);
    let server = serve(2, move || {
        let visit = |session: Session| async move {
            let visits = session.get::<u32>("visits").unwrap().unwrap_or(0) + 1;
            session.insert("visits", visits).unwrap();
            HttpResponse::Ok().insert_header(("cache-control", "private")).body(visits.to_string())
        };
        let page = |session: Session| async move {
            format!("visits {}", session.get::<u32>("visits").unwrap().unwrap_or(0))
        };
        App::new()
            .wrap(cache.clone())
            .wrap(
                SessionMiddleware::builder(CookieSessionStore::default(), key.clone())
                    .cookie_secure(false)
                    .build(),
            )
            .route("/visit", web::get().to(visit))
            .route("/page", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(client.get("/page").await.text(), "visits 0");
    let first = client.get("/visit").await;
    let cookie = first.field("set-cookie").unwrap();
    let cookie = ("cookie", cookie.split(';').next().unwrap());
    // What is stored for those without a session is nothing to who has one.
    for fields in [&[cookie][..], &[cookie]] {
        let mine = client.get_with("/page", fields).await;
        assert_eq!(
            (mine.text(), mine.cache_status().as_str()),
            ("visits 1", "fwd=request; detail=cookie")
        );
    }
    let other = client.get("/page").await;
    assert!(other.is_hit() && other.text() == "visits 0");
    let second = client.get("/visit").await;
    assert_eq!((second.text(), second.is_hit()), ("1", false));
    assert_ne!(second.field("set-cookie"), first.field("set-cookie"));
}

#[actix_web::test]
async fn fields_for_one_connection_or_one_requester_are_never_replayed() {
    let kept = [("link", "</a>"), ("x-page", "1"), ("www-authenticate", "Basic realm=\"a\"")];
    let own = [
        ("connection", "x-mine, X-Own"),
        ("x-mine", "1"),
        ("x-own", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("proxy-authenticate", "Basic realm=\"proxy\""),
        ("proxy-authentication-info", "nextnonce=\"a\""),
        ("authentication-info", "nextnonce=\"a\""),
        ("Authentication-Info", "rspauth=\"b\""),
    ];
    for lifetime in ["", "public, max-age=60"] {
        let fields = [&kept[..], &own, &[("cache-control", lifetime)]].concat();
        let (cache, _) = cache();
        let (server, _) = serve_replies(1, &cache, &[Reply::new(200, &fields)]);
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/0").await.is_stored());
        for method in [Method::GET, Method::HEAD] {
            let hit = client.send(method, "/0", &[]).await;
            assert!(hit.is_hit());
            for (name, _) in own {
                assert_eq!(hit.field(name), None, "{name}");
            }
            for (name, value) in kept {
                assert_eq!(hit.field(name).as_deref(), Some(value), "{name}");
            }
        }
    }
}

/// Who an outer middleware found out the tenant to be.
struct Tenant(String);

#[actix_web::test]
async fn a_tenant_known_outside_of_the_cache_can_be_part_of_the_key() {
    for (protocol, workers) in SETUPS {
        let tenant = |request: &actix_web::dev::ServiceRequest| {
            request.extensions().get::<Tenant>().map(|Tenant(name)| name.clone())
        };
        let policy = Policy::new().key_with("tenant", tenant);
        let (store, clock) = (store(), ManualClock::at(START));
        let cache = Cache::builder(store).clock(clock.clock()).policy(policy).build().unwrap();
        let server = serve(workers, move || {
            let page = |request: HttpRequest| async move {
                let extensions = request.extensions();
                extensions
                    .get::<Tenant>()
                    .map_or_else(|| "nobody".to_owned(), |Tenant(name)| name.clone())
            };
            App::new()
                .wrap(cache.clone())
                .wrap_fn(|request, service| {
                    // As a token's subject would be, by whatever means.
                    let name = HeaderName::from_static("x-subject");
                    let subject =
                        request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
                    if let Some(subject) = subject {
                        request.extensions_mut().insert(Tenant(subject));
                    }
                    service.call(request)
                })
                .route("/", web::get().to(page))
        });
        let client = Client::new(server.addr, protocol);
        let tenants: [(Fields<'_>, &str); 4] = [
            (&[("x-subject", "acme")], "acme"),
            (&[("x-subject", "acmeb")], "acmeb"),
            (&[("x-subject", "")], ""),
            (&[], "nobody"),
        ];
        for hit in [false, true] {
            for (fields, name) in tenants {
                let answer = client.get_with("/", fields).await;
                assert_eq!((answer.text(), answer.is_hit()), (name, hit), "{protocol:?}");
            }
        }
    }
}

#[actix_web::test]
async fn what_the_client_has_already_is_asked_of_the_page_that_is_its_own() {
    let (cache, _) = cache();
    let etag = ("etag", "\"a\"");
    let replies = [
        Reply::new(200, &[etag]),
        Reply::new(200, &[etag, ("vary", "accept-language")]),
        Reply::new(200, &[etag, ("cache-control", "max-age=60")]),
    ];
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for path in ["/0", "/1", "/2"] {
        assert!(client.get(path).await.is_stored());
    }
    let tag = ("if-none-match", "\"a\"");
    let any = ("if-none-match", "*");
    let since = ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT");
    let (cookie, german) = (("cookie", "sid=alice"), ("accept-language", "de"));
    for (path, fields, status, said) in [
        ("/0", [tag, ("x-nobody", "")], 304, "hit"),
        ("/0", [tag, cookie], 200, "fwd=request"),
        ("/0", [any, cookie], 200, "fwd=request"),
        ("/0", [since, cookie], 200, "fwd=request"),
        ("/0", [tag, ("authorization", "Bearer alice")], 200, "fwd=request"),
        ("/1", [any, ("x-nobody", "")], 304, "hit"),
        ("/1", [("if-none-match", "\"b\""), german], 200, "fwd=vary-miss"),
        ("/1", [any, ("accept-language", "fr")], 304, "fwd=vary-miss"),
        ("/2", [since, cookie], 304, "hit"),
    ] {
        let answer = client.get_with(path, &fields).await;
        assert_eq!(answer.status, status, "{path} {fields:?}");
        assert!(answer.cache_status().starts_with(said), "{path} {fields:?}");
    }
}
