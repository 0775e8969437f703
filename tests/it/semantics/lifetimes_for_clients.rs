//! The lifetimes that responses of the cache state to browsers and to caches further out.

use actix_web_cache::{Policy, Rule};

use crate::support::{
    Answer, builder, recording_app, secs,
    validators::{TAG, http_date},
};

const FAILURE: (&str, &str) = ("answer-status", "503");

/// A browser or another cache that gets this answer must not take it for fresh: each lifetime that
/// it states has ended at its age.
fn assert_stale_for_clients(answer: &Answer, case: &str) {
    let age: u64 = answer.field("age").unwrap().parse().unwrap();
    for name in ["cache-control", "cdn-cache-control"] {
        let field = answer.field(name).unwrap();
        for directive in ["max-age=", "s-maxage="] {
            let lifetime = field.split(", ").find_map(|member| member.strip_prefix(directive));
            let lifetime: u64 = lifetime.unwrap().parse().unwrap();
            assert!(lifetime <= age, "{case}: {name}: {field} at the age {age}");
        }
    }
    let date = |name| httpdate::parse_http_date(&answer.field(name).unwrap()).unwrap();
    assert!(date("expires") <= date("date") + secs(age), "{case}");
}

/// RFC 9111 section 4.2.4: the fields of a stale response must let its recipients see that it is
/// stale. They could not see it after a soft purge, because the response still stated an hour.
#[actix_web::test]
async fn response_known_to_be_stale_states_no_further_lifetime() {
    let hour = [
        TAG,
        ("answer", "cache-control: max-age=3600, s-maxage=3600"),
        ("answer", "cdn-cache-control: max-age=3600, s-maxage=3600"),
    ];
    let expires = format!("expires: {}", http_date(3600));
    let stored = [&hour[..], &[("answer", expires.as_str())]].concat();
    let windowed = || Policy::new().tag("all");
    let own_windows =
        "cache-control: max-age=3600, s-maxage=3600, stale-while-revalidate=90, stale-if-error=90";
    for (case, policy, field, request) in [
        ("stale-while-revalidate", windowed(), own_windows, &[][..]),
        ("stale-if-error", windowed(), own_windows, &[FAILURE]),
        (
            "max-stale",
            windowed().honor_request_directives(),
            "cache-control: max-age=3600, s-maxage=3600, stale-while-revalidate=0, stale-if-error=90",
            &[FAILURE, ("cache-control", "max-stale=600")],
        ),
    ] {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let (app, _) = recording_app(&cache);
        let mut fields = stored.clone();
        fields[1] = ("answer", field);
        assert!(app.client.get_with("/", &fields).await.is_stored(), "{case}");
        clock.advance(secs(5));
        let fresh = app.client.get("/").await;
        assert_eq!(fresh.field("cache-control").as_deref(), field.strip_prefix("cache-control: "));
        cache.handle().expire_tag("all").await.unwrap();
        clock.advance(secs(1));
        let stale = app.client.get_with("/", request).await;
        assert_eq!((stale.status.as_u16(), stale.text()), (200, "run 1"), "{case}");
        assert_stale_for_clients(&stale, case);
    }
}

/// A rule that keeps responses for a shorter time than they state also holds for other caches.
#[actix_web::test]
async fn lifetime_of_a_rule_limits_all_stated_lifetimes() {
    let (builder, clock) = builder();
    let rule = Rule::any().with(|policy| policy.override_ttl(secs(10)));
    let (app, _) = recording_app(&builder.rule(rule).build().unwrap());
    let fields = [
        ("answer", "cache-control: max-age=3600, s-maxage=3600"),
        ("answer", "cdn-cache-control: max-age=3600"),
    ];
    for second in [0, 4] {
        let answer = app.client.get_with("/", &fields).await;
        assert_eq!(answer.is_hit(), second > 0);
        assert_eq!(answer.field("cache-control").as_deref(), Some("max-age=10, s-maxage=10"));
        assert_eq!(answer.field("cdn-cache-control").as_deref(), Some("max-age=10"));
        assert_eq!(answer.field("expires"), Some(http_date(10)));
        clock.advance(secs(4));
    }
}

#[actix_web::test]
async fn jittered_lifetime_is_the_same_for_the_cache_and_its_clients() {
    let policy = Policy::new().default_ttl(secs(1000)).jitter(50);
    let rule = Rule::prefix("/overridden").with(|policy| policy.override_ttl(secs(1000)));
    let cache = builder().0.policy(policy).rule(rule).build().unwrap();
    let (app, _) = recording_app(&cache);
    let mut lifetimes = Vec::new();
    for n in 0..20 {
        for path in [format!("/{n}"), format!("/overridden/{n}")] {
            let stored = app.client.get(&path).await.field("cache-control").unwrap();
            let hit = app.client.get(&path).await;
            let max_age = hit.field("cache-control").unwrap();
            assert_eq!(max_age, stored, "{path}");
            let seconds: u64 = max_age.strip_prefix("max-age=").unwrap().parse().unwrap();
            assert_eq!(hit.cache_status(), format!("hit; ttl={seconds}"), "{path}");
            assert!((500..=1000).contains(&seconds), "{path}: {seconds}");
            lifetimes.push(seconds);
        }
    }
    lifetimes.sort_unstable();
    lifetimes.dedup();
    assert!(lifetimes.len() > 20, "{lifetimes:?}");
    let stated = [("answer", "cache-control: max-age=1000")];
    app.client.get_with("/stated", &stated).await;
    assert_eq!(app.client.get("/stated").await.cache_status(), "hit; ttl=1000");
}
