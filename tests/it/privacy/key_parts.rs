//! Parts of the cache key besides the URL: header fields, cookies, custom parts, namespaces, and
//! the selecting fields of `Vary`.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{Cache, Policy};

use crate::support::{builder, cache, store, test_app};

/// Returns a handler that answers with the value of one request field.
fn echo_field(name: &'static str) -> impl Fn(&HttpRequest, usize) -> HttpResponse + Clone + Send {
    move |request, _| {
        let value = request.headers().get(name).map_or("absent", |value| value.to_str().unwrap());
        HttpResponse::Ok().body(format!("{name}: {value}"))
    }
}

#[actix_web::test]
async fn key_header_separates_entries_by_value() {
    for name in ["x-forwarded-prefix", "x-original-url", "x-rewrite-url", "x-http-method-override"]
    {
        let cache = builder().0.policy(Policy::new().key_header(name)).build().unwrap();
        let site = test_app(&cache, echo_field(name));
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
async fn key_cookies_and_custom_parts_separate_entries() {
    let policy = Policy::new().vary_cookie("lang").key_with("tenant", |request| {
        let tenant = request.headers().get("x-tenant")?.to_str().ok()?;
        Some(tenant.to_ascii_lowercase())
    });
    let cache = builder().0.policy(policy).build().unwrap();
    let site = test_app(&cache, |request, run| {
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
    let equal = site.client.get_with("/", &[("x-tenant", "ACME")]).await;
    assert_eq!((equal.text(), equal.is_hit()), ("- acme 5", true), "the custom part ignores case");
}

/// actix-web decodes cookie names, so an encoded name reaches the handler as the key cookie.
#[actix_web::test]
async fn key_cookie_is_found_under_percent_encoded_name() {
    let policy = Policy::new().ignore_cookies(["*"]).vary_cookie("lang");
    let cache = builder().0.policy(policy).build().unwrap();
    let site = test_app(&cache, |request, _| {
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
async fn vary_compares_each_field_separately() {
    let (cache, _) = cache();
    let site = test_app(&cache, |request, _| {
        let of = |name| {
            let lines = request.headers().get_all(name).map(|line| line.to_str().unwrap());
            lines.collect::<Vec<_>>().join(" & ")
        };
        HttpResponse::Ok()
            .append_header(("vary", "x-tenant, x-person"))
            .append_header(("vary", "accept"))
            .body(format!("{} | {} | {}", of("x-tenant"), of("x-person"), of("accept")))
    });
    let requests: [&[(&str, &str)]; 12] = [
        &[("x-tenant", "acme"), ("x-person", "bob")],
        &[("x-tenant", "acmeb"), ("x-person", "ob")],
        &[("x-person", "acmebob")],
        &[("x-tenant", "acmebob")],
        &[("x-tenant", "acmebob"), ("x-person", "")],
        &[("x-tenant", ""), ("x-person", "acmebob")],
        &[("x-tenant", "acme, x-person: bob")],
        &[("x-tenant", "acme"), ("x-person", "bob"), ("accept", "a")],
        &[("x-tenant", "acme"), ("x-person", "bob"), ("accept", "A")],
        &[("x-tenant", "bob"), ("x-person", "acme")],
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
async fn reflected_cors_origin_reaches_only_that_origin() {
    let (cache, _) = cache();
    let site = test_app(&cache, |request, _| {
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
async fn namespaces_in_one_store_are_separate() {
    let store = store();
    let names = ["app", "app1", "1:x", "app:1", "app,", "3:app,", "APP"];
    let sites = names.map(|name| {
        let cache = Cache::builder(store.clone()).namespace(name).build().unwrap();
        test_app(&cache, move |_, _| HttpResponse::Ok().body(name))
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
