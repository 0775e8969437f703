//! Recipes for options and policies that several routes share by a name.

use actix_web::{App, Responder, get, web};
use actix_web_cache::{Cache, CachePolicy, Policy, QueryKey, ResponseOptions, Rule};

use super::policies::outcome;
use crate::support::{Client, Protocol, secs, serve, store};

#[get("/20", wrap = "CachePolicy::named(\"Expire20\")")]
async fn short() -> impl Responder {
    "page"
}

#[get("/live", wrap = "CachePolicy::named(\"NoCache\")")]
async fn live() -> impl Responder {
    "page"
}

async fn page() -> impl Responder {
    "page"
}

/// A policy under the name of a function.
fn query(policy: Policy) -> Policy {
    policy.query(QueryKey::only(["culture"]))
}

#[actix_web::test]
async fn routes_share_options_by_a_name() {
    let builder = Cache::builder(store());
    let builder = builder.options("Expire20", ResponseOptions::new().ttl(secs(20)));
    let builder = builder.options("NoCache", ResponseOptions::new().no_store("live"));
    let cache = builder.build().unwrap();
    let server = serve(1, move || App::new().wrap(cache.clone()).service(short).service(live));
    let client = Client::new(server.addr, Protocol::Http1);

    client.get("/20").await;
    let hit = client.get("/20").await;
    assert_eq!((hit.is_hit(), hit.field("cache-control").as_deref()), (true, Some("max-age=20")));
    assert_eq!(outcome(&client.get("/live").await), "handler");
}

#[actix_web::test]
async fn routes_and_rules_share_a_policy_by_a_function() {
    let rule = Rule::path("/query").with(query);
    let with_rule = Cache::builder(store()).rule(rule).build().unwrap();
    let by_rule = serve(1, move || {
        App::new().wrap(with_rule.clone()).service(web::resource("/query").to(page))
    });
    let cache = Cache::new(store());
    let by_route = serve(1, move || {
        App::new().service(web::resource("/query").wrap(cache.with(query)).to(page))
    });
    for (way, server) in [("rule", by_rule), ("route", by_route)] {
        let client = Client::new(server.addr, Protocol::Http1);
        for (culture, is_hit) in [("de&a=1", false), ("de&a=2", true), ("en", false)] {
            let answer = client.get(&format!("/query?culture={culture}")).await;
            assert_eq!(answer.is_hit(), is_hit, "{way} {culture}");
        }
    }
}
