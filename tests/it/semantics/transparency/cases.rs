//! Random policies, pages and requests.

use actix_web_cache::{Policy, QueryKey};
use proptest::{
    collection::vec,
    option,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    sample::{select, subsequence},
};

use crate::support::secs;

/// A policy, pages, and requests for them.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) is_rfc9111: bool,
    pub(super) options: Vec<Opt>,
    /// Whether the store answers later, as one for several processes does.
    pub(super) has_slow_store: bool,
    pub(super) pages: Vec<Page>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    KeyTenant,
    KeyTheme,
    IgnoreTracking,
    DefaultTtl,
    ExplicitOnly,
    RequestDirectives,
    Heuristics,
    WhileRevalidate,
    IfError,
    RefreshAhead,
    ClientTtl,
    ErrorTtl,
    NoCompress,
    SmallBodies,
    XCache,
}

/// A page: its status codes and fields, and the requests on which its content depends.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) status: u16,
    /// The status code while the counter is odd.
    pub(super) other_status: u16,
    pub(super) directives: &'static [&'static str],
    pub(super) vary: &'static [&'static str],
    pub(super) tag: Tag,
    pub(super) has_date: bool,
    pub(super) personal: Personal,
    pub(super) repeats: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    None,
    Strong,
    Weak,
}

/// The credentials on which a page depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Personal {
    No,
    /// Cookies, although no field of the response says so.
    Cookie,
    PrivateCookie,
    VaryCookie,
    /// `Authorization`, although no field of the response says so.
    Authorization,
    /// `X-Api-Key`, although no field of the response says so.
    ApiKey,
}

/// One request, or several requests at once.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Ask { requests: Vec<Request>, elapsed: u64 },
    Post { url: Url, status: u16, also: Option<usize> },
}

#[derive(Debug, Clone)]
pub(super) struct Url {
    pub(super) host: &'static str,
    pub(super) page: usize,
    pub(super) query: &'static str,
    /// Whether the path is percent-encoded.
    pub(super) is_encoded: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) is_head: bool,
    pub(super) fields: Vec<(&'static str, &'static str)>,
    pub(super) condition: Condition,
    pub(super) range: Option<(&'static str, IfRange)>,
}

/// A condition of a request. The validators of a page are those that it has at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    KnownTag,
    OtherTag,
    AnyTag,
    KnownDate,
    OtherDate,
    MatchTag,
    MatchOtherTag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfRange {
    None,
    Known,
    Other,
}

/// The number of pages of a case.
const PAGES: usize = 4;

impl Case {
    pub(super) fn has(&self, option: Opt) -> bool {
        self.options.contains(&option)
    }

    pub(super) fn policy(&self) -> Policy {
        let preset = if self.is_rfc9111 { Policy::rfc9111() } else { Policy::new() };
        self.options.iter().fold(preset, |policy, option| match option {
            Opt::KeyTenant => policy.key_header("X-Tenant"),
            Opt::KeyTheme => policy.vary_cookie("theme"),
            Opt::IgnoreTracking => policy.query(QueryKey::ignoring(["utm"])),
            Opt::DefaultTtl => policy.default_ttl(secs(5)),
            Opt::ExplicitOnly => policy.explicit_only(),
            Opt::RequestDirectives => policy.honor_request_directives(),
            Opt::Heuristics => policy.heuristic_freshness(),
            Opt::WhileRevalidate => policy.stale_while_revalidate(secs(600)),
            Opt::IfError => policy.stale_if_error(secs(600)),
            Opt::RefreshAhead => policy.refresh_ahead(50),
            Opt::ClientTtl => policy.client_ttl(secs(3)),
            Opt::ErrorTtl => policy.status_ttl(404, secs(60)).status_ttl(500, secs(60)),
            Opt::NoCompress => policy.no_compress_outside(),
            Opt::SmallBodies => policy.max_body_size(200),
            Opt::XCache => policy,
        })
    }
}

fn page(is_rfc9111: bool) -> BoxedStrategy<Page> {
    let stated: Vec<&'static [&'static str]> = vec![
        &["max-age=60"],
        &["public, max-age=60"],
        &["s-maxage=10"],
        &["max-age=1, stale-while-revalidate=600"],
        &["max-age=60", "must-revalidate"],
        &["max-age=0"],
        &["max-age=0, stale-while-revalidate=20"],
    ];
    let unstated: Vec<&'static [&'static str]> =
        vec![&[], &[], &["must-revalidate"], &["no-cache"], &["no-store"], &["private"]];
    let personal = if is_rfc9111 {
        vec![Personal::PrivateCookie, Personal::VaryCookie, Personal::Authorization]
    } else {
        vec![
            Personal::Cookie,
            Personal::PrivateCookie,
            Personal::VaryCookie,
            Personal::Authorization,
            Personal::ApiKey,
        ]
    };
    let personal = prop_oneof![3 => Just(Personal::No), 2 => select(personal)];
    let statuses = || prop_oneof![6 => Just(200), 1 => select(vec![203, 301, 404, 410, 500])];
    let vary: Vec<&'static [&'static str]> =
        vec![&[], &[], &["accept"], &["accept-language", "x-b"]];
    let tags = select(vec![Tag::None, Tag::Strong, Tag::Strong, Tag::Weak]);
    let content = (select(vary), tags, any::<bool>(), select(vec![1, 1, 4]));
    (statuses(), statuses(), select(stated), select(unstated), any::<bool>(), personal, content)
        .prop_map(
            |(
                status,
                other_status,
                stated,
                unstated,
                states,
                personal,
                (vary, tag, dates, size),
            )| {
                // A page that states a lifetime also answers requests with credentials, so its
                // content must not depend on them unless it says so.
                let unmarked = [Personal::Cookie, Personal::Authorization, Personal::ApiKey];
                let is_no_cache = unstated.contains(&"no-cache");
                let directives = if !unmarked.contains(&personal) {
                    if states { stated } else { unstated }
                } else if is_no_cache {
                    &[]
                } else {
                    unstated
                };
                let has_date = dates;
                Page {
                    status,
                    other_status,
                    directives,
                    vary,
                    tag,
                    has_date,
                    personal,
                    repeats: size,
                }
            },
        )
        .boxed()
}

fn url() -> BoxedStrategy<Url> {
    let hosts = prop_oneof![8 => Just("a"), 1 => Just("A"), 1 => Just("b")];
    let queries = prop_oneof![4 => Just(""), 1 => select(vec!["x=1", "utm=1", "x=1&utm=2"])];
    let pages = prop_oneof![3 => Just(0), 2 => 0..PAGES];
    let encoded = proptest::bool::weighted(0.1);
    (hosts, pages, queries, encoded)
        .prop_map(|(host, page, query, is_encoded)| Url { host, page, query, is_encoded })
        .boxed()
}

fn request() -> BoxedStrategy<Request> {
    let fields = vec![
        ("accept", "a"),
        ("accept", "b"),
        ("accept-language", "de"),
        ("x-b", "1"),
        ("x-tenant", "1"),
        ("x-tenant", "2"),
        ("cookie", "sid=alice"),
        ("cookie", "theme=dark"),
        ("authorization", "Bearer alice"),
        ("authorization", "Bearer bob"),
        ("x-api-key", "alice"),
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "max-stale"),
        ("cache-control", "no-store"),
    ];
    let fields = prop_oneof![1 => Just(Vec::new()), 2 => subsequence(fields, 1..=2)];
    let fields = fields.prop_map(|mut fields| {
        fields.dedup_by_key(|(name, _)| *name);
        fields
    });
    let conditions = vec![
        Condition::KnownTag,
        Condition::OtherTag,
        Condition::AnyTag,
        Condition::KnownDate,
        Condition::OtherDate,
        Condition::MatchTag,
        Condition::MatchOtherTag,
    ];
    let condition = prop_oneof![3 => Just(Condition::None), 1 => select(conditions)];
    let ranges = select(vec!["bytes=0-5", "bytes=7-", "bytes=-9", "bytes=3-9999", "bytes=9999-"]);
    let if_range = select(vec![IfRange::None, IfRange::None, IfRange::Known, IfRange::Other]);
    let range = option::weighted(0.2, (ranges, if_range));
    let head = proptest::bool::weighted(0.1);
    (url(), head, fields, condition, range)
        .prop_map(|(url, is_head, fields, condition, range)| Request {
            url,
            is_head,
            fields,
            condition,
            range,
        })
        .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let elapsed = prop_oneof![3 => Just(0), 1 => select(vec![1_u64, 9, 40, 61, 700])];
    let requests = prop_oneof![2 => vec(request(), 1), 1 => vec(request(), 2..=4)];
    let post = (url(), select(vec![200, 204, 303, 400, 500]), option::weighted(0.3, 0..PAGES));
    prop_oneof![
        8 => (requests, elapsed).prop_map(|(requests, elapsed)| Step::Ask { requests, elapsed }),
        1 => post.prop_map(|(url, status, also)| Step::Post { url, status, also }),
    ]
    .boxed()
}

pub(super) fn case() -> BoxedStrategy<Case> {
    let options = vec![
        Opt::KeyTenant,
        Opt::KeyTheme,
        Opt::IgnoreTracking,
        Opt::DefaultTtl,
        Opt::ExplicitOnly,
        Opt::RequestDirectives,
        Opt::Heuristics,
        Opt::WhileRevalidate,
        Opt::IfError,
        Opt::RefreshAhead,
        Opt::ClientTtl,
        Opt::ErrorTtl,
        Opt::NoCompress,
        Opt::SmallBodies,
        Opt::XCache,
    ];
    let preset = prop_oneof![2 => Just(false), 1 => Just(true)];
    preset
        .prop_flat_map(move |is_rfc9111| {
            let slow = proptest::bool::weighted(0.25);
            let options = subsequence(options.clone(), 0..=4);
            (options, slow, vec(page(is_rfc9111), PAGES), vec(step(), 10..40)).prop_map(
                move |(options, has_slow_store, pages, steps)| Case {
                    is_rfc9111,
                    options,
                    has_slow_store,
                    pages,
                    steps,
                },
            )
        })
        .boxed()
}
