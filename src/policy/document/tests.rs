use std::{collections::BTreeSet, time::Duration};

use serde::de::DeserializeOwned;

use super::{file::CacheFile, policy_changes::PolicyChanges};
use crate::{
    compression::level::CompressionLevel,
    options::ResponseOptions,
    policy::{
        compression::Compression,
        error::ConfigError,
        policy_set::{PolicyConfig, PolicySet},
        query::QueryKey,
        rule::Rule,
        settings::Policy,
    },
    semantics::client_lifetime::ClientHeaders,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn debug(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

/// Returns the names that an error for an unknown key lists.
fn known_keys<T: DeserializeOwned>() -> BTreeSet<String> {
    let error = toml::<T>("no_such_key = 1").err().expect("unknown key");
    let (_, known) = error.split_once("expected").expect("the error names the known keys");
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the names of the setters of `Policy` in the sources, except those that take a function.
fn setters() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/policy/settings");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for setter in source.split("\n    pub fn ").skip(1) {
            let (signature, _) = setter.split_once(" {\n").unwrap();
            if !signature.contains("Fn(") {
                names.insert(signature.split(['(', '<']).next().unwrap().to_owned());
            }
        }
    }
    names
}

/// Each key with a value, and the policy that the setter makes.
fn settings() -> Vec<(&'static str, Policy)> {
    let new = Policy::new;
    vec![
        ("rfc9111 = true", Policy::rfc9111()),
        ("default_ttl = \"90s\"", new().default_ttl(secs(90))),
        ("status_ttl = { 404 = \"5m\", 410 = \"0s\" }", {
            new().status_ttl(404, secs(300)).status_ttl(410, secs(0))
        }),
        ("override_ttl = \"1h 30m\"", new().override_ttl(secs(5400))),
        ("override_status_ttl = { 503 = \"1s\" }", new().override_status_ttl(503, secs(1))),
        ("explicit_only = true", new().explicit_only()),
        ("heuristic_freshness = true", new().heuristic_freshness()),
        ("client_ttl = \"500ms\"", new().client_ttl(Duration::from_millis(500))),
        ("cdn_ttl = \"1h\"", new().cdn_ttl(secs(3600))),
        ("client_headers = \"untouched\"", new().client_headers(ClientHeaders::Untouched)),
        ("leave_out = \"x-a\"", new().leave_out(["x-a"])),
        ("no_content_tags = true", new().no_content_tags()),
        ("compress = { level = \"fast\", min_size = 9, types = \"text/*\" }", {
            let level = Compression::new().level(CompressionLevel::Fast);
            new().compress(level.min_size(9).types(["text/*"]))
        }),
        ("no_compression = true", new().no_compression()),
        ("fetch_on_head = true", new().fetch_on_head()),
        ("cache_queries = 9", new().cache_queries(9)),
        ("pass_queries = true", new().pass_queries()),
        ("cache_posts_by_body = 9", new().cache_posts_by_body(9)),
        ("request_body_limit = \"1s\"", new().request_body_limit(secs(1))),
        ("ignore_no_vary_search = true", new().ignore_no_vary_search()),
        ("purge_paths_by_requests = true", new().purge_paths_by_requests()),
        ("emit_tags = \"cache-tag\"", new().emit_tags("cache-tag")),
        ("jitter = 10", new().jitter(10)),
        ("never_store_status = [404, 410]", new().never_store_status([404, 410])),
        ("stale_while_revalidate = \"1day\"", new().stale_while_revalidate(secs(86400))),
        ("stale_if_error = \"1h\"", new().stale_if_error(secs(3600))),
        ("refresh_ahead = 20", new().refresh_ahead(20)),
        ("keep_stale = \"2h\"", new().keep_stale(secs(7200))),
        ("wait_limit = \"1s\"", new().wait_limit(secs(1))),
        ("background_limit = \"2s\"", new().background_limit(secs(2))),
        ("drain_limit = \"3s\"", new().drain_limit(secs(3))),
        ("max_body_size = 1024", new().max_body_size(1024)),
        ("query = { only = [\"q\"] }", new().query(QueryKey::only(["q"]))),
        ("vary_cookie = [\"a\", \"b\"]", new().vary_cookie("a").vary_cookie("b")),
        ("key_header = \"x-tenant\"", new().key_header("x-tenant")),
        ("fold_language_case = true", new().fold_language_case()),
        ("vary_languages = [\"de\", \"en\"]", new().vary_languages(["de", "en"])),
        ("vary_codings = [\"br\"]", new().vary_codings(["br"])),
        ("replay_set_cookie = true", new().replay_set_cookie()),
        ("share_despite_cookies = true", new().share_despite_cookies()),
        ("ignore_cookies = \"_ga*\"", new().ignore_cookies(["_ga*"])),
        ("credentials = [\"x-mine\"]", new().credentials(["x-mine"])),
        ("ignore_credentials = [\"x-api-key\"]", new().ignore_credentials(["x-api-key"])),
        ("trusted_proxies = []", new().trusted_proxies(Vec::<String>::new())),
        ("share_authorized = true", new().share_authorized()),
        ("anonymous_only = true", new().anonymous_only()),
        ("honor_request_directives = true", new().honor_request_directives()),
        ("targeted_fields = \"a\"", new().targeted_fields(["a"])),
        ("remove_targeted_fields = true", new().remove_targeted_fields()),
        ("honor_qualified_directives = true", new().honor_qualified_directives()),
        ("no_compress_outside = true", new().no_compress_outside()),
        ("no_purge_by_requests = true", new().no_purge_by_requests()),
        ("no_purge_by_redirects = true", new().no_purge_by_redirects()),
        ("no_purge_by_location = true", new().no_purge_by_location()),
        ("tag = [\"a\", \"b\"]", new().tag("a").tag("b")),
        ("tag_fields = \"cache-tag\"", new().tag_fields(["cache-tag"])),
        ("remove_tag_fields = true", new().remove_tag_fields()),
    ]
}

#[test]
fn each_setter_without_a_function_has_a_key() {
    let mut expected = setters();
    assert!(expected.contains("default_ttl") && !expected.contains("key_with"), "{expected:?}");
    expected.insert("rfc9111".to_owned());
    assert_eq!(known_keys::<PolicyChanges>(), expected);
    let tested: BTreeSet<_> =
        settings().iter().map(|(text, _)| text.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(tested, expected, "each key is in the table of this test");
}

#[test]
fn key_has_the_effect_of_its_setter() {
    let unchanged = debug(&Policy::new());
    for (text, want) in settings() {
        let changes: PolicyChanges = toml(text).unwrap();
        let want = debug(&want);
        assert_eq!(debug(&changes.apply(Policy::new())), want, "{text}");
        // This setting ends the effect of another one.
        assert!(want != unchanged || text == "no_compression = true", "{text}");
    }
    let compressed = || Policy::new().compress(Compression::new());
    let changes: PolicyChanges = toml("no_compression = true").unwrap();
    assert_eq!(debug(&changes.apply(compressed())), unchanged);
    let none: PolicyChanges = toml("").unwrap();
    assert_eq!(debug(&none.apply(Policy::rfc9111())), debug(&Policy::rfc9111()));
}

#[test]
fn query_is_that_of_the_setters() {
    let tracking = || QueryKey::tracking_parameters().map(str::to_owned);
    for (text, want) in [
        ("only = [\"q\", \"page\"]", QueryKey::only(["q", "page"])),
        ("only = []", QueryKey::only(Vec::<String>::new())),
        ("only = \"q\"\nsorted = true", QueryKey::only(["q"]).then_sorted()),
        ("ignoring = \"utm_*\"", QueryKey::ignoring(["utm_*"])),
        ("tracking_parameters = true", QueryKey::ignoring(tracking())),
        (
            "ignoring = [\"x\"]\ntracking_parameters = true\nsorted = true",
            QueryKey::ignoring(["x".to_owned()].into_iter().chain(tracking())).then_sorted(),
        ),
        ("sorted = true", QueryKey::sorted()),
    ] {
        assert_eq!(toml(text), Ok(want), "{text}");
    }
}

#[test]
fn options_are_those_of_the_setters() {
    for (text, want) in [
        ("ttl = \"5m\"", ResponseOptions::new().ttl(secs(300))),
        ("tags = [\"a\", \"b\"]", ResponseOptions::new().tag("a").tag("b")),
        ("no_store = true", ResponseOptions::new().no_store("the configuration forbids it")),
        ("", ResponseOptions::new()),
    ] {
        assert_eq!(toml(text), Ok(want), "{text}");
    }
}

#[test]
fn rule_is_that_of_the_setters() {
    use actix_web::http::Method;
    let hour = |policy: Policy| policy.default_ttl(secs(3600));
    for (text, want) in [
        ("any = true", Rule::any()),
        ("path = \"/a\"\nbypass = true", Rule::path("/a").bypass()),
        ("prefix = \"/a\"\nrelative = true", Rule::prefix("/a").relative()),
        ("pattern = \"/a/{id}\"\npolicy = {}", Rule::pattern("/a/{id}").with(hour)),
        #[cfg(feature = "regex")]
        ("regex = \"/a+\"", Rule::regex("/a+")),
        ("any = true\nmethods = [\"GET\", \"QUERY\"]", {
            Rule::any().method(Method::GET).method("QUERY".parse().unwrap())
        }),
        ("any = true\nhosts = \"*.a.com\"", Rule::any().host("*.a.com")),
    ] {
        assert_eq!(debug(&toml::<Rule>(text).unwrap()), debug(&want), "{text}");
    }
}

const DOCUMENT: &str = r#"
    rules_only = true

    [policy]
    default_ttl = "5m"
    ignore_cookies = ["_ga*"]

    [[rules]]
    path = "/health"
    bypass = true

    [[rules]]
    pattern = "/posts/{id}"
    policy = { default_ttl = "1h", tag = "post:{id}" }

    [options.minutes]
    ttl = "5m"
"#;

const SAME_DOCUMENT: &str = r#"{
    "rules_only": true,
    "policy": { "default_ttl": "5m", "ignore_cookies": ["_ga*"] },
    "rules": [
        { "path": "/health", "bypass": true },
        { "pattern": "/posts/{id}", "policy": { "default_ttl": "1h", "tag": "post:{id}" } }
    ],
    "options": { "minutes": { "ttl": "5m" } }
}"#;

#[test]
fn formats_make_the_same_settings() {
    let of_toml: CacheFile = toml(DOCUMENT).unwrap();
    let of_json: CacheFile = json(SAME_DOCUMENT).unwrap();
    assert_eq!(debug(&of_toml), debug(&of_json));
    assert_eq!((of_toml.rules.len(), of_toml.options.len()), (2, 1));
    let numbers: PolicyChanges = json(r#"{"status_ttl": {"404": "5s"}}"#).unwrap();
    let want = Policy::new().status_ttl(404, secs(5));
    assert_eq!(debug(&numbers.apply(Policy::new())), debug(&want));
    let empty: CacheFile = toml("").unwrap();
    assert_eq!(debug(&empty), debug(&CacheFile::default()));
}

#[test]
fn mistake_in_a_file_is_an_error_with_advice() {
    for (text, message) in [
        ("polcy = {}", "unknown field `polcy`, expected one of `policy`"),
        ("policy = { defaul_ttl = \"1s\" }", "unknown field `defaul_ttl`"),
        ("policy = { key_with = \"a\" }", "unknown field `key_with`"),
        ("policy = { default_ttl = 60 }", "expected a time with units"),
        ("policy = { default_ttl = \"60\" }", "expected a time with units"),
        ("policy = { default_ttl = \"soon\" }", "expected a time with units"),
        ("policy = { status_ttl = { abc = \"1s\" } }", "expected a status code"),
        ("policy = { status_ttl = { 70000 = \"1s\" } }", "expected a status code"),
        ("policy = { explicit_only = false }", "can only be `true`"),
        ("policy = { explicit_only = true, default_ttl = \"1s\" }", "exclude each other"),
        ("policy = { fold_language_case = true, vary_languages = [\"a\"] }", "exclude each other"),
        ("policy = { tag = 1 }", "expected a text or a list of texts"),
        ("policy = { jitter = 300 }", "u8"),
        ("policy = { query = {} }", "the query needs `only`"),
        ("policy = { query = { only = [], ignoring = [] } }", "`only` excludes"),
        ("rules = [{}]", "a rule needs one of"),
        ("rules = [{ path = \"/a\", prefix = \"/a\" }]", "only one of"),
        ("rules = [{ any = false }]", "can only be `true`"),
        ("rules = [{ any = true, methods = \"get\" }]", "write \"GET\""),
        ("rules = [{ any = true, methods = \"A B\" }]", "\"A B\" is not a method"),
        ("rules = [{ path = \"/a\", when = \"x\" }]", "unknown field `when`"),
        ("options = { a = { ttl = \"1s\", tag = \"a\" } }", "unknown field `tag`"),
        ("options = { a = { no_store = false } }", "can only be `true`"),
    ] {
        let error = toml::<CacheFile>(text).expect_err(text);
        assert!(error.contains(message), "{text}: {error}");
    }
    #[cfg(not(feature = "regex"))]
    assert!(toml::<Rule>("regex = \"/a\"").unwrap_err().contains("the feature `regex`"));
}

/// The checks are those of the setters.
#[test]
fn invalid_value_in_a_file_is_refused_when_the_cache_is_built() {
    let compile = |text: &str| {
        let file: CacheFile = toml(text).unwrap();
        let policy = file.policy.apply(Policy::new());
        let config = PolicyConfig { policy, rules: file.rules, ..PolicyConfig::new() };
        PolicySet::new(config, "t").map(drop)
    };
    assert_eq!(compile("policy = { jitter = 90 }"), Err(ConfigError::InvalidJitter(90)));
    let both = "rules = [{ path = \"/a\", bypass = true, policy = {} }]";
    assert_eq!(compile(both), Err(ConfigError::BypassWithPolicy));
    let rule = "rules = [{ path = \"/a\", policy = { max_body_size = 0 } }]";
    assert!(matches!(compile(rule), Err(ConfigError::Rule { .. })));
    assert_eq!(compile(DOCUMENT), Ok(()));
}
