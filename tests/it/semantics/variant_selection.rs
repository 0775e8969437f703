//! Variants: how selecting fields are compared, how many variants are kept, and which one a new
//! response replaces (RFC 9111 section 4.1).

use actix_web_cache::Policy;

use crate::support::{builder, cache, recording_app};

const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Returns whether a response with `Vary: name` for one value also answers the other.
async fn is_shared(policy: &Policy, name: &str, one: &str, other: &str) -> bool {
    let (app, _) = recording_app(&builder().0.policy(policy.clone()).build().unwrap());
    let vary = format!("vary: {name}");
    let fields = [("answer", &*vary), MINUTE];
    let miss = app.client.get_with("/", &[&fields[..], &[(name, one)]].concat()).await;
    assert!(miss.is_stored());
    let next = app.client.get_with("/", &[&fields[..], &[(name, other)]].concat()).await;
    if !next.is_hit() {
        assert_eq!(next.cache_status(), "fwd=vary-miss; stored");
    }
    next.is_hit()
}

#[actix_web::test]
async fn selecting_fields_are_compared_as_sent_or_as_policy_normalizes() {
    let (language, coding) = ("accept-language", "accept-encoding");
    let languages = Policy::new().vary_languages(["en", "de", "pt-BR"]);
    let codings = Policy::new().vary_codings(["br", "gzip"]);
    for (policy, name, one, other, want) in [
        (Policy::new(), language, "de, en", "de,en", true),
        (Policy::new(), language, "de", "DE", false),
        (Policy::new(), language, "de", "de;q=1.0", false),
        (Policy::new(), coding, "gzip, br", "br, gzip", false),
        (Policy::new().fold_language_case(), language, "de-AT", "DE-at", true),
        (Policy::new().fold_language_case(), language, "de", "en", false),
        (Policy::new().fold_language_case(), "accept", "A/B", "a/b", false),
        (languages.clone(), language, "de-AT, fr;q=0.9", "de;q=0.5", true),
        (languages.clone(), language, "fr, *;q=0.1", "en", true),
        (languages.clone(), language, "fr", "es", true),
        (languages.clone(), language, "de;q=0.5, en;q=0.6", "de;q=0.6, en;q=0.5", false),
        (languages.clone(), language, "de;q=0, en", "de, en;q=0.5", false),
        (languages.clone(), language, "pt", "pt-br", false),
        (languages, coding, "gzip", "gzip, br", false),
        (codings.clone(), coding, "gzip, deflate, br", "br;q=1.0, gzip;q=0.2", true),
        (codings.clone(), coding, "gzip, zstd", "x-gzip", true),
        (codings.clone(), coding, "deflate", "zstd", true),
        (codings.clone(), coding, "gzip", "gzip;q=0", false),
        (codings.clone(), coding, "gzip", "gzip, br", false),
        (codings.clone(), coding, "gzip", "gzip, identity;q=0", false),
        (codings, language, "de", "DE", false),
    ] {
        assert_eq!(is_shared(&policy, name, one, other).await, want, "{name}: {one} and {other}");
    }
}

#[actix_web::test]
async fn variants_are_limited_and_newest_are_kept() {
    let (cache, _) = cache();
    let (app, _) = recording_app(&cache);
    let vary = ("answer", "vary: accept");
    let values: Vec<String> = (0..100).map(|n| format!("x/{n}")).collect();
    for value in &values {
        assert!(app.client.get_with("/", &[vary, MINUTE, ("accept", value)]).await.is_stored());
    }
    for (n, value) in values.iter().enumerate().rev().take(64) {
        let hit = app.client.get_with("/", &[vary, ("accept", value)]).await;
        assert_eq!((hit.is_hit(), hit.text()), (true, &*format!("run {}", n + 1)), "{value}");
    }
    let first: Fields<'_> = &[vary, MINUTE, ("accept", "x/0")];
    assert_eq!(app.client.get_with("/", first).await.cache_status(), "fwd=vary-miss; stored");
}

#[actix_web::test]
async fn new_variant_replaces_only_variant_with_equal_selection() {
    let (cache, _) = cache();
    let (app, _) = recording_app(&cache);
    let (de, en) = (("accept-language", "de"), ("accept-language", "en"));
    let by_language = ("answer", "vary: accept-language");
    // A handler may omit Vary on one of its paths: the variant of the other language stays.
    assert!(app.client.get_with("/", &[by_language, MINUTE, de]).await.is_stored());
    assert!(app.client.get_with("/", &[MINUTE, en]).await.is_stored());
    for (language, want) in [(de, "run 1"), (en, "run 2")] {
        assert_eq!(app.client.get_with("/", &[language]).await.text(), want);
    }
    // An equal selection replaces the variant.
    let again = [by_language, MINUTE, de, ("cache-control", "no-cache")];
    let (builder, _) = builder();
    let policy = Policy::new().honor_request_directives();
    let (app, _) = recording_app(&builder.policy(policy).build().unwrap());
    app.client.get_with("/", &again[..3]).await;
    assert_eq!(app.client.get_with("/", &again).await.text(), "run 2");
    assert_eq!(app.client.get_with("/", &[de]).await.text(), "run 2");
}

#[actix_web::test]
async fn responses_of_one_url_vary_on_at_most_32_request_fields_together() {
    let (cache, _) = cache();
    let (app, _) = recording_app(&cache);
    let names = |round: usize| {
        let names: Vec<_> = (0..16).map(|n| format!("x-{round}-{n}")).collect();
        names.join(", ")
    };
    for (round, status) in [
        (0, "fwd=uri-miss; stored"),
        (1, "fwd=vary-miss; stored"),
        (2, "fwd=vary-miss; detail=vary"),
        (3, "fwd=vary-miss; detail=vary"),
    ] {
        let vary = format!("vary: {}", names(round));
        let other = round.to_string();
        let fields = [("answer", &*vary), MINUTE, ("x-0-0", &other)];
        let answer = app.client.get_with("/", &fields).await;
        assert_eq!(answer.cache_status(), status, "{round}");
    }
    let known = [("x-0-0", "1")];
    assert!(app.client.get_with("/", &known).await.is_hit(), "stored variants stay");
    let many: Vec<_> = (0..33).map(|n| format!("x-{n}")).collect();
    let vary = format!("vary: {}", many.join(", "));
    let refused = app.client.get_with("/many", &[("answer", &*vary), MINUTE]).await;
    assert_eq!(refused.cache_status(), "fwd=uri-miss; detail=vary");
}
