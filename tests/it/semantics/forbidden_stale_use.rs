//! Responses that forbid their stale use (RFC 9111 section 4.2.4), in each of the ways in which the
//! cache serves other responses stale.

use std::time::Duration;

use actix_web::{App, HttpRequest, web};
use actix_web_cache::{Cache, ManualClock, Policy};
use tokio::time::Instant;

use crate::support::{
    Answer, Client, Counter, HoldPoint, Protocol, Server, builder, conditions, requested_response,
    secs, serve,
    validators::{TAG, UNCHANGED, VALIDATED},
    wait_until,
};

/// The limit after which a slow handler is replaced by a stale response.
const WAIT_LIMIT: Duration = Duration::from_millis(5);

/// A setting or an event that lets the cache serve a stale response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    WhileRevalidate,
    IfError,
    IfBroken,
    MaxStale,
    OnlyIfCached,
    RefreshAhead,
    SoftPurge,
    SlowHandler,
}

impl Way {
    const ALL: [Self; 8] = [
        Self::WhileRevalidate,
        Self::IfError,
        Self::IfBroken,
        Self::MaxStale,
        Self::OnlyIfCached,
        Self::RefreshAhead,
        Self::SoftPurge,
        Self::SlowHandler,
    ];

    fn policy(self) -> Policy {
        let long = secs(600);
        match self {
            Self::WhileRevalidate => Policy::new().stale_while_revalidate(long),
            Self::IfError | Self::IfBroken => Policy::new().stale_if_error(long),
            Self::MaxStale | Self::OnlyIfCached => Policy::new().honor_request_directives(),
            Self::RefreshAhead => Policy::new().refresh_ahead(90),
            Self::SoftPurge => Policy::new().stale_while_revalidate(long).stale_if_error(long),
            Self::SlowHandler => Policy::new().stale_if_error(long).wait_limit(WAIT_LIMIT),
        }
    }
}

struct Site {
    cache: Cache,
    clock: ManualClock,
    client: Client,
    hold: HoldPoint,
    runs: Counter,
    _server: Server,
}

impl Site {
    fn new(policy: Policy) -> Self {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let (hold, runs) = (HoldPoint::new(), Counter::default());
        let shared = (cache.clone(), hold.clone(), runs.clone());
        let server = serve(1, move || {
            let (cache, hold, runs) = shared.clone();
            let handler = move |request: HttpRequest| {
                let (hold, run) = (hold.clone(), runs.count());
                async move {
                    if request.headers().contains_key("hold") {
                        hold.wait().await;
                    }
                    assert_eq!(conditions(&request).is_empty(), run == 1, "run {run}");
                    if request.headers().contains_key("break") {
                        return Err(actix_web::error::ErrorBadGateway("requested by the test"));
                    }
                    Ok(requested_response(&request, run))
                }
            };
            App::new().wrap(cache).default_service(web::to(handler))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        Self { cache, clock, client, hold, runs, _server: server }
    }

    /// Requests the page when it is stale or expired, and returns the response.
    async fn request(&self, way: Way) -> Answer {
        let validated = [TAG, UNCHANGED];
        match way {
            Way::IfError => self.client.get_with("/", &[("answer-status", "503")]).await,
            Way::IfBroken => self.client.get_with("/", &[("break", "1")]).await,
            Way::MaxStale | Way::OnlyIfCached => {
                let only = if way == Way::MaxStale { "" } else { "only-if-cached, " };
                let directives = format!("{only}max-stale=600");
                let fields = [("cache-control", &*directives), TAG, UNCHANGED];
                self.client.get_with("/", &fields).await
            }
            Way::SlowHandler => {
                let client = self.client.clone();
                let fields = [TAG, UNCHANGED, ("hold", "1")];
                let waiting = tokio::spawn(async move { client.get_with("/", &fields).await });
                self.hold.reached().await;
                let started = Instant::now();
                wait_until("the wait limit is over", || started.elapsed() > 10 * WAIT_LIMIT).await;
                self.hold.release();
                waiting.await.unwrap()
            }
            Way::WhileRevalidate | Way::RefreshAhead | Way::SoftPurge => {
                self.client.get_with("/", &validated).await
            }
        }
    }
}

#[actix_web::test]
async fn response_that_forbids_stale_use_is_never_served_stale() {
    for directives in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "s-maxage=60",
        "max-age=60, no-cache",
        "max-age=60, must-revalidate, stale-while-revalidate=600, stale-if-error=600",
    ] {
        for way in Way::ALL {
            let case = format!("{way:?} of {directives}");
            let site = Site::new(way.policy());
            let line = format!("cache-control: {directives}");
            assert!(
                site.client.get_with("/", &[TAG, ("answer", &line)]).await.is_stored(),
                "{case}"
            );
            if way == Way::SoftPurge {
                site.cache.handle().expire_all().await.unwrap();
            } else {
                site.clock.advance(secs(61));
            }
            let answer = site.request(way).await;
            let status = match way {
                Way::IfError => 503,
                Way::IfBroken => 502,
                Way::OnlyIfCached => 504,
                _ => 200,
            };
            assert_eq!(answer.status.as_u16(), status, "{case}");
            if status == 200 {
                assert_eq!(
                    (answer.text(), &*answer.cache_status()),
                    ("run 1", VALIDATED),
                    "{case}"
                );
            }
            let runs = if way == Way::OnlyIfCached { 1 } else { 2 };
            assert_eq!(site.runs.get(), runs, "{case}");
        }
    }
}

/// Without these directives, each of the ways serves the response stale.
#[actix_web::test]
async fn response_that_allows_stale_use_is_served_stale_in_each_way() {
    for way in Way::ALL.into_iter().filter(|way| *way != Way::RefreshAhead) {
        let site = Site::new(way.policy());
        let minute = ("answer", "cache-control: max-age=60");
        assert!(site.client.get_with("/", &[TAG, minute]).await.is_stored(), "{way:?}");
        if way == Way::SoftPurge {
            site.cache.handle().expire_all().await.unwrap();
        } else {
            site.clock.advance(secs(61));
        }
        let answer = site.request(way).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{way:?}");
        let status = answer.cache_status();
        assert!(
            status.starts_with("hit; ttl=-") || status.ends_with("stale-if-error"),
            "{way:?}: {status}"
        );
    }
}
