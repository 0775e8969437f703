//! The lifetimes that responses state to browsers and to a CDN: `Policy::client_ttl`,
//! `Policy::cdn_ttl` and `Policy::client_headers`.

use actix_web_cache::{ClientHeaders, ConfigError, Policy, Rule};

use crate::support::{Answer, START, builder, requested_response, secs, test_app, with_entity_tag};

/// `Cache-Control`, `CDN-Cache-Control` and the time of `Expires` after the start, as far as present.
fn stated(answer: &Answer) -> String {
    let expires = answer.field("expires").map_or_else(String::new, |date| {
        match httpdate::parse_http_date(&date) {
            Ok(time) => {
                let start = std::time::UNIX_EPOCH + secs(START);
                time.duration_since(start).unwrap().as_secs().to_string()
            }
            Err(_) => date,
        }
    });
    let field = |name| answer.field(name).unwrap_or_default();
    format!("{} | {} | {expires}", field("cache-control"), field("cdn-cache-control"))
}

#[actix_web::test]
async fn cdn_may_keep_a_response_for_longer_than_browsers() {
    let (builder, clock) = builder();
    let policy = Policy::new()
        .default_ttl(secs(100))
        .client_ttl(secs(10))
        .cdn_ttl(secs(50))
        .stale_if_error(secs(1000));
    let cache = builder.policy(policy).build().unwrap();
    let app = test_app(&cache, requested_response);
    for (path, fields, want) in [
        ("/", &[][..], "max-age=10 | max-age=50 | 10"),
        (
            "/directives",
            &["cache-control: must-revalidate"],
            "must-revalidate, max-age=10 | must-revalidate, max-age=50 | 10",
        ),
        ("/stated", &["cache-control: max-age=70"], "max-age=70 |  | "),
        ("/own", &["cdn-cache-control: max-age=5"], "max-age=10 | max-age=5 | 10"),
        ("/refused", &["cache-control: no-store"], "no-store |  | "),
    ] {
        let fields: Vec<_> = fields.iter().map(|line| ("answer", *line)).collect();
        for _ in 0..2 {
            let answer = app.client.get_with(path, &fields).await;
            assert_eq!(stated(&answer), want, "{path} {}", answer.cache_status());
        }
    }
    // The lifetimes count from the time at which the response was made, as `Age` does.
    for (later, want) in
        [(30, "max-age=40 | max-age=80 | 40"), (65, "max-age=100 | max-age=100 | 100")]
    {
        clock.advance(secs(later));
        let answer = app.client.get("/").await;
        assert!(answer.is_hit());
        assert_eq!(stated(&answer), want);
    }
    // A stale response is stale in the CDN, too.
    clock.advance(secs(15));
    let answer = app.client.get_with("/", &[("answer-status", "500")]).await;
    assert_eq!(answer.text(), "run 1");
    assert_eq!(stated(&answer), "max-age=100 | max-age=110 | 100");
}

#[actix_web::test]
async fn validated_response_states_its_lifetime_to_a_cdn_again() {
    let (builder, clock) = builder();
    let policy = Policy::new().default_ttl(secs(20)).cdn_ttl(secs(50));
    let cache = builder.policy(policy).build().unwrap();
    let app = test_app(&cache, |request, _| with_entity_tag(request, "\"1\"", "page".to_owned()));
    for round in 1..4 {
        for _ in 0..2 {
            let answer = app.client.get("/").await;
            let want = format!("max-age=20 | max-age=20 | {}", (round - 1) * 30 + 20);
            assert_eq!(stated(&answer), want, "{}", answer.cache_status());
        }
        clock.advance(secs(30));
    }
}

#[actix_web::test]
async fn untouched_fields_reach_clients_as_the_handler_sent_them() {
    let (builder, clock) = builder();
    let policy = Policy::new()
        .client_ttl(secs(1))
        .client_headers(ClientHeaders::Untouched)
        .key_header("x-tenant");
    let rules = [
        Rule::prefix("/cdn").with(|policy| policy.cdn_ttl(secs(5))),
        Rule::prefix("/short").with(|policy| policy.override_ttl(secs(30))),
    ];
    let cache = builder.policy(policy).rules(rules).build().unwrap();
    let app = test_app(&cache, requested_response);
    for (path, field, want) in [
        ("/", "x: y", " |  | "),
        ("/cdn", "x: y", " | max-age=5 | "),
        ("/directives", "cache-control: public", "public |  | "),
        ("/short", "cache-control: max-age=90", "max-age=90 |  | "),
        ("/short/cdn", "cdn-cache-control: max-age=90", " | max-age=90 | "),
        ("/expires", "expires: 0", " |  | 0"),
    ] {
        for is_hit in [false, true] {
            let answer = app.client.get_with(path, &[("answer", field)]).await;
            assert_eq!(stated(&answer), want, "{path} {}", answer.cache_status());
            let is_stored = path != "/expires";
            assert_eq!(answer.is_hit(), is_hit && is_stored, "{path}");
            let vary = answer.field("vary").unwrap_or_default();
            assert_eq!(vary.contains("x-tenant"), is_stored, "{path}");
            assert!(answer.headers.contains_key("date"));
            assert_eq!(answer.headers.contains_key("age"), answer.is_hit());
        }
    }
    clock.advance(secs(10));
    assert_eq!(app.client.get("/").await.field("age").unwrap(), "10");
    cache.handle().expire_all().await.unwrap();
    assert_eq!(stated(&app.client.get("/short").await), " |  | ");
}

/// For a CDN, `CDN-Cache-Control` replaces `private` in `Cache-Control`. A CDN must not send the page
/// of one person to others.
#[actix_web::test]
async fn no_cdn_may_store_the_page_of_one_person() {
    for headers in [ClientHeaders::WithLifetime, ClientHeaders::Untouched] {
        let (builder, clock) = builder();
        let policy = Policy::new()
            .per_user(|_| Some("alice".to_owned()))
            .cdn_ttl(secs(50))
            .client_headers(headers);
        let cache = builder.policy(policy).build().unwrap();
        let app = test_app(&cache, |request, _| {
            let mut response = with_entity_tag(request, "\"1\"", "page".to_owned());
            if request.path() == "/own" && response.status() == 200 {
                let own = "max-age=600, public".parse().unwrap();
                response.headers_mut().insert("cdn-cache-control".parse().unwrap(), own);
            }
            response
        });
        for (path, want) in [("/", None), ("/own", Some("no-store"))] {
            for later in [0, 0, 70, 0] {
                clock.advance(secs(later));
                let answer = app.client.get(path).await;
                let case = format!("{path} {headers:?} {}", answer.cache_status());
                assert_eq!(answer.field("cdn-cache-control").as_deref(), want, "{case}");
                assert!(answer.field("cache-control").unwrap().contains("private"), "{case}");
            }
        }
    }
}

/// Rules that differ only in lifetimes share stored responses.
#[actix_web::test]
async fn shorter_client_ttl_of_a_rule_applies_to_responses_of_others() {
    let tenant = |name: &'static str| {
        Rule::any().when(move |request| request.headers().get("x-rule").is_some_and(|v| v == name))
    };
    let rules = [
        tenant("short").with(|policy| policy.client_ttl(secs(5)).cdn_ttl(secs(7))),
        tenant("long").with(|policy| policy.client_ttl(secs(30))),
        tenant("none").with(|policy| policy),
    ];
    for (stored_by, requests) in [
        ("long", [("short", "max-age=5 | max-age=7 | 5"), ("none", "max-age=30 |  | 30")]),
        ("none", [("short", "max-age=5 | max-age=7 | 5"), ("none", "max-age=60 |  | 60")]),
        ("short", [("long", "max-age=5 |  | 5"), ("none", "max-age=5 |  | 5")]),
    ] {
        let app = test_app(&builder().0.rules(rules.clone()).build().unwrap(), requested_response);
        app.client.get_with("/", &[("x-rule", stored_by)]).await;
        for (rule, want) in requests {
            let answer = app.client.get_with("/", &[("x-rule", rule)]).await;
            assert!(answer.is_hit(), "{stored_by} {rule}");
            assert_eq!(stated(&answer), want, "{stored_by} {rule}");
        }
    }
}

#[test]
fn lifetime_for_a_cdn_in_a_removed_field_is_refused() {
    let policy = || Policy::new().cdn_ttl(secs(5)).targeted_fields(["CDN-Cache-Control"]);
    assert!(builder().0.policy(policy()).build().is_ok());
    let removed = builder().0.policy(policy().remove_targeted_fields()).build();
    assert_eq!(removed.map(|_| ()).unwrap_err(), ConfigError::CdnTtlRemoved);
}
