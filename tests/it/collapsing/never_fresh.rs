//! Bursts of requests for pages of all kinds. A client waits for at most one handler call besides
//! its own, and for none once the cache knows that the page is never fresh.

use std::{collections::HashSet, time::UNIX_EPOCH};

use actix_web::{HttpRequest, HttpResponse, http::header::DATE};
use actix_web_cache::Policy;

use crate::support::{Answer, Client, GatedApp, SETUPS, START, builder, secs};

/// The number of clients of a burst.
const BURST: usize = 20;

/// A page, which the handler sends again with 304 if its tag is asked for.
#[derive(Clone, Copy)]
struct Page {
    cache_control: &'static str,
    vary: Option<&'static str>,
    status: u16,
    /// The page was made two minutes ago, according to its `Date`.
    old: bool,
    /// The page is sent in two chunks of known length.
    streamed: bool,
    /// The page sets a cookie, another one for each client.
    sets_cookie: bool,
}

const PAGE: Page = Page {
    cache_control: "max-age=60",
    vary: None,
    status: 200,
    old: false,
    streamed: false,
    sets_cookie: false,
};

fn with(cache_control: &'static str) -> Page {
    Page { cache_control, ..PAGE }
}

impl Page {
    fn respond(self, request: &HttpRequest, run: usize) -> HttpResponse {
        let mut response = if request.headers().contains_key("if-none-match") {
            HttpResponse::NotModified()
        } else {
            HttpResponse::build(self.status.try_into().unwrap())
        };
        if self.status == 200 {
            response.insert_header(("etag", "\"a\""));
        }
        response.insert_header(("cache-control", self.cache_control));
        if let Some(vary) = self.vary {
            response.insert_header(("vary", vary));
        }
        if self.sets_cookie {
            response.insert_header(("set-cookie", format!("client={run}")));
        }
        if self.old {
            response.insert_header((DATE, two_minutes_ago()));
        }
        if request.headers().contains_key("if-none-match") {
            return response.finish();
        }
        let body = format!("run {run:06}");
        if self.streamed {
            let (one, other) = body.split_at(4);
            let chunks = [one.to_owned(), other.to_owned()]
                .map(|chunk| Ok::<_, std::io::Error>(chunk.into()));
            return response.no_chunking(10).streaming(futures_util::stream::iter(chunks));
        }
        response.body(body)
    }
}

fn two_minutes_ago() -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + secs(START - 120))
}

#[actix_web::test]
async fn no_client_waits_for_the_validations_of_others() {
    const ALL: &[usize] = &[BURST];
    const LEADER_FIRST: &[usize] = &[1, BURST - 1];
    let new = Policy::new;
    for (case, policy, page, first, later) in [
        ("fresh", new(), PAGE, &[1][..], &[][..]),
        ("no-cache", new(), with("no-cache"), LEADER_FIRST, ALL),
        ("no-cache with a lifetime", new(), with("no-cache, max-age=60"), LEADER_FIRST, ALL),
        ("max-age=0", new(), with("max-age=0"), &[1], ALL),
        ("max-age=0 by the policy", new().default_ttl(secs(0)), with("x"), &[1], ALL),
        ("old on arrival", new(), Page { old: true, ..PAGE }, &[1], ALL),
        ("must-revalidate", new(), with("max-age=0, must-revalidate"), LEADER_FIRST, ALL),
        ("proxy-revalidate", new(), with("max-age=0, proxy-revalidate"), LEADER_FIRST, ALL),
        ("s-maxage=0", new(), with("s-maxage=0"), LEADER_FIRST, ALL),
        ("max-age=0 in a proxy", Policy::rfc9111(), with("max-age=0"), LEADER_FIRST, ALL),
        ("streamed", new(), Page { streamed: true, ..with("max-age=0") }, &[1], ALL),
        (
            "streamed no-cache",
            new(),
            Page { streamed: true, ..with("no-cache") },
            LEADER_FIRST,
            ALL,
        ),
        ("private", new(), with("private"), LEADER_FIRST, ALL),
        ("Vary: *", new(), Page { vary: Some("*"), ..PAGE }, LEADER_FIRST, ALL),
        ("Vary: accept, *", new(), Page { vary: Some("accept, *"), ..PAGE }, LEADER_FIRST, ALL),
        ("Set-Cookie", new(), Page { sets_cookie: true, ..PAGE }, LEADER_FIRST, ALL),
        ("error", new(), Page { status: 500, ..PAGE }, LEADER_FIRST, LEADER_FIRST),
        ("client error", new(), Page { status: 403, ..PAGE }, LEADER_FIRST, LEADER_FIRST),
    ] {
        for (protocol, workers) in SETUPS {
            let app = GatedApp::new();
            let cache = builder().0.policy(policy.clone()).build().unwrap();
            let server = app.serve(
                workers,
                move || cache.clone(),
                async move |app, request| page.respond(&request, app.pass_gate().await),
            );
            let clients: Vec<_> = (0..BURST).map(|_| Client::new(server.addr, protocol)).collect();
            for generations in [first, later, later] {
                let answers = app.send_in_generations(case, &clients, &[], generations).await;
                let is_collapsed = |answer: &&Answer| answer.cache_status().contains("collapsed");
                let collapsed = answers.iter().filter(is_collapsed).count();
                assert_eq!(collapsed, if generations == [1] { BURST - 1 } else { 0 }, "{case}");
                let cookies: HashSet<_> =
                    answers.iter().filter_map(|answer| answer.field("set-cookie")).collect();
                assert_eq!(cookies.len(), if page.sets_cookie { BURST } else { 0 }, "{case}");
                for answer in answers {
                    assert_eq!(answer.status.as_u16(), page.status, "{case}");
                    assert_eq!(answer.body.len(), 10, "{case}: {answer:?}");
                }
            }
        }
    }
}
