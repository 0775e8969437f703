//! Unsafe requests for URLs that clients invent: the purges leave nothing behind, and stored
//! responses of other URLs stay valid.

use actix_web_cache::{Cache, MemoryStore, Policy, PurgeTarget, QueryKey, store::Store};
use hyper::Method;

use crate::support::{TestApp, requested_response, secs, store, test_app};

fn tenants(store: MemoryStore) -> Cache {
    let policy = Policy::new().default_ttl(secs(600)).key_header("x-tenant").vary_cookie("theme");
    Cache::builder(store).policy(policy).build().unwrap()
}

#[actix_web::test]
async fn purges_by_unsafe_requests_leave_no_record_and_keep_other_urls() {
    let store = store();
    let site = test_app(&tenants(store.clone()), requested_response);
    let tenant = |n: usize| [("x-tenant", ["a", "b", "c"][n % 3])];
    for n in 0..6 {
        assert!(site.client.get_with(&format!("/{n}"), &tenant(n)).await.is_stored());
    }
    let before = store.coordinator().stamp();
    for n in 0..200 {
        let post = site.client.send(Method::POST, &format!("/0?{n}"), &[]).await;
        assert_eq!(post.status, 200);
        let located = [("answer", "location: /1?located"), ("answer-status", "201")];
        let put = site.client.send(Method::PUT, "/invented", &located).await;
        assert_eq!(put.status, 201);
    }
    let coordinator = store.coordinator();
    assert_eq!((coordinator.recorded_tags(), coordinator.stamp()), (0, before));
    assert_eq!(coordinator.problems().dropped_records, 0);
    for n in 0..6 {
        assert!(site.client.get_with(&format!("/{n}"), &tenant(n)).await.is_hit(), "/{n}");
    }
    // The purge of the URL itself works.
    site.client.send(Method::POST, "/0", &[]).await;
    assert!(site.client.get_with("/0", &tenant(0)).await.is_stored());
}

#[actix_web::test]
async fn url_purge_reaches_the_pages_of_every_policy_over_the_store() {
    let store = store();
    let sites: Vec<TestApp> = [
        Policy::new(),
        Policy::rfc9111(),
        Policy::new().key_header("x-tenant"),
        Policy::new().key_with("path", |request| Some(request.path().to_owned())),
        Policy::new().query(QueryKey::sorted()),
        Policy::new().vary_cookie("theme").tag("t"),
    ]
    .into_iter()
    .map(|policy| {
        let cache = Cache::builder(store.clone()).policy(policy.default_ttl(secs(600)));
        test_app(&cache.build().unwrap(), requested_response)
    })
    .collect();
    let fields: [&[(&str, &str)]; 3] = [
        &[("host", "h")],
        &[("host", "h"), ("x-tenant", "a")],
        &[("host", "h"), ("cookie", "theme=a")],
    ];
    let answer = ("answer", "cache-control: public, max-age=600");
    let get = async |site: &TestApp, path: &str, fields: &[(&str, &str)]| {
        site.client.get_with(path, &[fields, &[answer]].concat()).await
    };
    for purging in &sites {
        let mut before = Vec::new();
        for site in &sites {
            for fields in fields {
                get(site, "/page?b=1&a=2", fields).await;
                let page = get(site, "/page?b=1&a=2", fields).await;
                assert!(page.is_hit());
                before.push(page.text().to_owned());
                get(site, "/other", fields).await;
            }
        }
        purging.client.send(Method::PUT, "/page?b=1&a=2", &[("host", "h")]).await;
        let mut before = before.into_iter();
        for (n, site) in sites.iter().enumerate() {
            for fields in fields {
                let page = get(site, "/page?b=1&a=2", fields).await;
                assert_ne!(page.text(), before.next().unwrap(), "site {n}, {fields:?}");
                assert!(get(site, "/other", fields).await.is_hit(), "site {n}, {fields:?}");
            }
        }
    }
}

#[actix_web::test]
async fn ten_thousand_tenants_of_one_url_are_purged_and_counted() {
    const TENANTS: usize = 10_000;
    let store = MemoryStore::new(1024 * 1024 * 1024);
    let cache = tenants(store.clone());
    let site = test_app(&cache, requested_response);
    let get = async |path: &str, n: usize| {
        let tenant = format!("tenant-{n}");
        site.client.get_with(path, &[("host", "h"), ("x-tenant", &tenant)]).await
    };
    for n in 0..TENANTS {
        assert!(get("/", n).await.is_stored());
    }
    assert!(get("/other", 1).await.is_stored());
    for n in [0, 1, TENANTS - 1] {
        assert!(get("/", n).await.is_hit());
    }
    let purged = cache.handle().purge(PurgeTarget::url("http://h/")).await.unwrap();
    assert_eq!(purged.responses, Some(TENANTS));
    assert_eq!(store.len(), 1, "the other URL");
    assert!(get("/other", 1).await.is_hit());
    assert!(get("/", 1).await.is_stored());
    let again = cache.handle().purge(PurgeTarget::url("http://h/")).await.unwrap();
    assert_eq!(again.responses, Some(1));
}

#[actix_web::test]
async fn evicted_and_replaced_entries_are_purged_and_counted_once() {
    let store = MemoryStore::new(256 * 1024);
    let cache = tenants(store.clone());
    let site = test_app(&cache, requested_response);
    for round in 0..3 {
        for n in 0..600 {
            let tenant = format!("{}", n % 300);
            let fields =
                [("host", "h"), ("x-tenant", tenant.as_str()), ("cache-control", "no-cache")];
            site.client.get_with(&format!("/{}", n % 7), &fields).await;
        }
        let mut purged = 0;
        let stored = store.len();
        for n in 0..7 {
            purged +=
                cache.handle().purge_url(format!("http://h/{n}")).await.unwrap().responses.unwrap();
        }
        assert_eq!(purged as u64, stored, "round {round}");
        assert!(stored > 0 && store.is_empty());
    }
}
