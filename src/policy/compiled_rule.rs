//! `CompiledRule`: a checked rule with its policy.

use actix_web::{
    dev::ServiceRequest,
    http::{Method, Uri},
};

use super::{
    cache_name::CacheName,
    compiled::CompiledPolicy,
    error::ConfigError,
    fingerprint::RuleOrigin,
    path_matcher::PathMatcher,
    request_url::{AmbiguousHost, host, target_urls},
    rule::{ComparedPath, Handling},
    settings::Policy,
    values::RequestTest,
};
use crate::entry::url::UrlTarget;

/// A checked rule with its policy.
#[derive(Debug, Clone)]
pub(super) struct CompiledRule {
    path: PathMatcher,
    compared: ComparedPath,
    methods: Vec<Method>,
    hosts: Vec<HostMatcher>,
    predicates: Vec<RequestTest>,
    /// `None` if the rule lets requests bypass the cache.
    pub(super) policy: Option<Box<CompiledPolicy>>,
}

/// Whether a rule applies to requests for a URL, if only the URL is known and not the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlMatch {
    No,
    Yes,
    /// The URL matches, but only a request shows whether the rule applies: the rule has predicates or
    /// a relative path, or it has hosts and the URL has none.
    Maybe,
}

impl CompiledRule {
    /// Checks a rule, and compiles its policy.
    pub(super) fn new(
        origin: &RuleOrigin<'_>,
        policy: Policy,
        name: CacheName<'_>,
    ) -> Result<Self, ConfigError> {
        let rule = origin.rule;
        let path = PathMatcher::new(&rule.path, rule.compared)?;
        let in_rule = |error| ConfigError::Rule { path: rule.path.to_string(), error };
        let policy = match rule.handling {
            Handling::Bypass if rule.changes.is_empty() => None,
            Handling::Bypass => return Err(ConfigError::BypassWithPolicy),
            Handling::Cache => {
                let policy = CompiledPolicy::new(policy, Some((origin, &path)), name);
                Some(Box::new(policy.map_err(Box::new).map_err(in_rule)?))
            }
        };
        let hosts = rule.hosts.iter().map(|host| HostMatcher::new(host));
        Ok(Self {
            path,
            compared: rule.compared,
            methods: rule.methods.clone(),
            hosts: hosts.collect::<Result<_, _>>().map_err(Box::new).map_err(in_rule)?,
            predicates: rule.predicates.clone(),
            policy,
        })
    }

    /// Returns whether the rule applies to a request, if the request has this method.
    pub(super) fn matches(&self, request: &ServiceRequest, method: &Method) -> bool {
        self.path.matches(self.compared.of(request))
            && self.matches_method(method)
            && (self.hosts.is_empty() || self.matches_host_of(request))
            && self.predicates.iter().all(|predicate| predicate.passes(request))
    }

    /// Returns whether the path of the rule matches a path.
    pub(super) fn matches_path(&self, path: &str) -> bool {
        self.path.matches(path)
    }

    /// Returns whether the rule applies to requests for a URL with this method. `path` is the path by
    /// which actix routes these requests.
    pub(super) fn matches_url(&self, url: &UrlTarget, method: &Method, path: &str) -> UrlMatch {
        // A URL without a host stands for the URLs on all hosts.
        let is_any_host = url.host.is_empty();
        // The scope of the URL is not known.
        let is_relative = self.compared == ComparedPath::BelowScope;
        let matches = (is_relative || self.path.matches(path))
            && self.matches_method(method)
            && (self.hosts.is_empty() || is_any_host || self.matches_host(&url.host));
        let needs_host = is_any_host && !self.hosts.is_empty();
        match matches {
            false => UrlMatch::No,
            true if self.predicates.is_empty() && !needs_host && !is_relative => UrlMatch::Yes,
            true => UrlMatch::Maybe,
        }
    }

    fn matches_method(&self, method: &Method) -> bool {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.is_empty()
            || self.methods.contains(method)
            || (*method == Method::GET && self.methods.contains(&Method::HEAD))
    }

    /// Returns whether the rule matches the host of a request. If a request names several hosts, one
    /// of them must match: the request bypasses the cache, but it may purge URLs on any of them.
    fn matches_host_of(&self, request: &ServiceRequest) -> bool {
        match host(request) {
            Ok(host) => self.matches_host(host),
            Err(AmbiguousHost) => {
                target_urls(request).iter().any(|url| self.matches_host(&url.host))
            }
        }
    }

    fn matches_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|matcher| matcher.matches(host))
    }
}

/// The hosts that a rule matches. All texts are in lower case.
#[derive(Debug, Clone)]
enum HostMatcher {
    /// A host with a port. A default port can be missing.
    WithPort { host: String, port: String },
    /// A host with any port or none.
    AnyPort(String),
    /// All hosts that end with this text, which begins with a dot.
    Below(String),
}

impl HostMatcher {
    fn new(text: &str) -> Result<Self, ConfigError> {
        let text = text.to_ascii_lowercase();
        let invalid = || ConfigError::Host(text.clone());
        let below = text.strip_prefix('*');
        let host = below.map_or(text.as_str(), |rest| rest.strip_prefix('.').unwrap_or_default());
        let uri: Uri = format!("http://{host}/").parse().map_err(|_| invalid())?;
        let authority = uri.authority().filter(|authority| authority.as_str() == host);
        let authority = authority.filter(|_| !host.contains(['*', '@'])).ok_or_else(invalid)?;
        let (name, port) = (authority.host(), authority.port().map(|port| port.to_string()));
        Ok(match (below, port) {
            (None, Some(port)) => Self::WithPort { host: name.to_owned(), port },
            // The text after a colon is no port.
            (_, None) if name != host => return Err(invalid()),
            (None, None) => Self::AnyPort(text),
            (Some(below), None) => Self::Below(below.to_owned()),
            (Some(_), Some(_)) => return Err(invalid()),
        })
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::WithPort { host: name, port } => {
                let (own, sent) = split_port(host);
                own.eq_ignore_ascii_case(name)
                    && sent.map_or_else(|| matches!(&**port, "80" | "443"), |sent| sent == port)
            }
            Self::AnyPort(text) => split_port(host).0.eq_ignore_ascii_case(text),
            Self::Below(text) => {
                let host = split_port(host).0.as_bytes();
                let end = host.len().checked_sub(text.len()).and_then(|start| host.get(start..));
                host.len() > text.len()
                    && end.is_some_and(|end| end.eq_ignore_ascii_case(text.as_bytes()))
            }
        }
    }
}

/// Splits a host from its port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        // An IPv6 address in brackets contains colons.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::test::TestRequest;

    use super::{super::rule::Rule, *};

    fn compile(rule: &Rule) -> Result<CompiledRule, ConfigError> {
        let base = Policy::new();
        let changes = rule.changes.iter();
        let policy = changes.fold(base.clone(), |policy, change| change.apply(policy));
        CompiledRule::new(&RuleOrigin { rule, ordinal: 0, base: &base }, policy, "t".into())
    }

    fn matches(rule: &Rule, method: &Method, url: &str) -> bool {
        let (host, path) = url.split_at(url.find('/').unwrap());
        let request = TestRequest::with_uri(path).insert_header(("host", host)).to_srv_request();
        compile(rule).unwrap().matches(&request, method)
    }

    #[test]
    fn rule_matches_whole_paths_segments_or_patterns() {
        for (rule, path, want) in [
            (Rule::any(), "/anything", true),
            (Rule::path("/a"), "/a", true),
            (Rule::path("/a"), "/a/", false),
            (Rule::path("/a"), "/a/b", false),
            (Rule::path("/a"), "/A", false),
            (Rule::path("/a/b"), "/a%2Fb", false),
            (Rule::prefix("/api"), "/api", true),
            (Rule::prefix("/api"), "/api/x/y", true),
            (Rule::prefix("/api"), "/apix", false),
            (Rule::prefix("/api/"), "/api/x", true),
            (Rule::prefix("/api/"), "/api", false),
            (Rule::prefix("/"), "/anything", true),
            (Rule::pattern("/posts/{id}"), "/posts/1", true),
            (Rule::pattern("/posts/{id}"), "/posts/1/edit", false),
            (Rule::pattern("/posts/{id:[0-9]+}"), "/posts/x", false),
            (Rule::pattern("/files/{tail}*"), "/files/a/b", true),
            (Rule::path("/café au lait"), "/caf%C3%A9%20au%20lait", true),
            (Rule::path("/a%2Fb"), "/a%2Fb", true),
            (Rule::path("/a*b"), "/a*b", true),
            (Rule::any().when(|request| request.headers().contains_key("x-a")), "/", false),
            (Rule::any().when(|request| request.path() == "/b"), "/b", true),
            (Rule::any().when(|_| true).when(|_| false), "/", false),
        ] {
            assert_eq!(matches(&rule, &Method::GET, path), want, "{rule:?} on {path}");
        }
    }

    #[test]
    fn relative_rule_matches_the_part_below_the_scope() {
        for (rule, path, scope, want) in [
            (Rule::path("/a"), "/blog/a", "/blog", true),
            (Rule::path("/blog/a"), "/blog/a", "/blog", false),
            (Rule::path(""), "/blog", "/blog", true),
            (Rule::path("/"), "/blog", "/blog", false),
            (Rule::path("/"), "/blog/", "/blog", true),
            (Rule::path("/a"), "/a", "", true),
            (Rule::prefix("/a"), "/blog/a/b", "/blog", true),
            (Rule::prefix(""), "/blog", "/blog", true),
            (Rule::prefix(""), "/blog/a", "/blog", true),
            (Rule::pattern("/{id}"), "/blog/1", "/blog", true),
            (Rule::pattern(""), "/blog", "/blog", true),
            (Rule::any(), "/blog", "/blog", true),
            // A resource has matched the whole path.
            (Rule::path("/blog/a"), "/blog/a", "/blog/a", false),
        ] {
            let mut request = TestRequest::with_uri(path).to_srv_request();
            request.match_info_mut().skip(scope.len().try_into().unwrap());
            let rule = rule.relative();
            let got = compile(&rule).unwrap().matches(&request, &Method::GET);
            assert_eq!(got, want, "{rule:?} on {path} in {scope}");
        }
    }

    #[test]
    fn rule_matches_its_methods() {
        let rule = |methods: &[Method]| {
            methods.iter().fold(Rule::any(), |rule, method| rule.method(method.clone()))
        };
        for (methods, method, want) in [
            (&[][..], Method::POST, true),
            (&[Method::GET], Method::GET, true),
            (&[Method::GET], Method::HEAD, true),
            (&[Method::HEAD], Method::GET, true),
            (&[Method::GET], Method::POST, false),
            (&[Method::PUT, Method::POST], Method::POST, true),
            (&[Method::POST], Method::HEAD, false),
        ] {
            assert_eq!(matches(&rule(methods), &method, "/"), want, "{methods:?} {method}");
        }
    }

    #[test]
    fn rule_matches_its_hosts() {
        for (host, request, want) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com:8080", true),
            ("Example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("example.com:8080", "example.com:8080", true),
            ("example.com:8080", "example.com", false),
            ("*.example.com", "www.example.com:80", true),
            ("*.example.com", "a.b.example.COM", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "wwwexample.com", false),
            ("*.example.com", ".example.com", false),
            ("[::1]", "[::1]:8080", true),
            ("[::1]", "[::1]", true),
            ("[::1]:80", "[::1]", true),
            ("[::1]:8080", "[::1]", false),
            ("example.com:80", "example.com", true),
            ("example.com:443", "example.com:443", true),
            ("example.com:443", "example.com:80", false),
        ] {
            let rule = Rule::any().host(host);
            assert_eq!(matches(&rule, &Method::GET, &format!("{request}/")), want, "{rule:?}");
        }
        let several = Rule::any().host("a").host("b");
        assert!(matches(&several, &Method::GET, "b/") && !matches(&several, &Method::GET, "c/"));
    }

    /// The hosts in a request with several decide what the request purges.
    #[test]
    fn one_of_several_hosts_of_a_request_matches() {
        let rule = compile(&Rule::any().host("a")).unwrap();
        for (uri, hosts, want) in [
            ("/", &["a", "b"][..], true),
            ("/", &["c", "b"], false),
            ("http://b/", &["a"], true),
            ("http://a/", &["b"], false),
        ] {
            let request = hosts.iter().fold(TestRequest::with_uri(uri), |request, host| {
                request.append_header(("host", *host))
            });
            let request = request.to_srv_request();
            assert_eq!(rule.matches(&request, &Method::POST), want, "{uri} {hosts:?}");
        }
    }

    #[cfg(feature = "regex")]
    #[test]
    fn regex_matches_the_whole_path() {
        for (pattern, path, want) in [
            ("/api", "/api", true),
            ("/api", "/apix", false),
            ("/api", "/v1/api", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/ax", false),
            ("/api/.*", "/api/x", true),
        ] {
            let rule = Rule::regex(pattern);
            assert_eq!(matches(&rule, &Method::GET, path), want, "{pattern} on {path}");
        }
        let error = compile(&Rule::regex("/a)(")).unwrap_err();
        assert!(error.to_string().contains("/a)("), "{error}");
    }

    #[test]
    fn invalid_rule_is_refused_with_advice() {
        let zero = |policy: Policy| policy.wait_limit(Duration::ZERO);
        for (rule, message) in [
            (Rule::path("health"), "does not begin with '/'"),
            (Rule::prefix(""), "does not begin with '/'"),
            (Rule::path("/posts/{id}"), "use Rule::pattern(\"/posts/{id}\")"),
            (Rule::prefix("/posts/{id}"), "use Rule::pattern(\"/posts/{id}\")"),
            (Rule::path("/x/*"), "use Rule::prefix(\"/x\")"),
            (Rule::prefix("/x/*"), "use Rule::prefix(\"/x\")"),
            (Rule::pattern("/x/*"), "use Rule::prefix(\"/x\")"),
            (Rule::path("/*"), "use Rule::prefix(\"/\")"),
            (Rule::path("/x*"), "a parameter in Rule::pattern"),
            (Rule::path("/x/*/y"), "a parameter in Rule::pattern"),
            (Rule::path("/x/*/*"), "a parameter in Rule::pattern"),
            (Rule::path("/x?a=1"), "Rule::when to match requests"),
            (Rule::prefix("/x?a=1"), "Policy::query to choose"),
            (Rule::pattern("/x?a=1"), "Policy::query to choose"),
            (Rule::path("/caf%C3%A9"), "write \"/café\""),
            (Rule::prefix("/%61"), "write \"/a\""),
            (Rule::pattern("/%61/{id}"), "write \"/a/\""),
            (Rule::pattern("posts/{id}"), "does not begin with '/'"),
            (Rule::pattern("/posts/{id"), "a brace is not closed"),
            (Rule::pattern("/posts/{id:[}"), "is not valid"),
            (Rule::any().host(""), "the host \"\" of a rule"),
            (Rule::any().host("*"), "the host \"*\" of a rule"),
            (Rule::any().host("http://a"), "the host \"http://a\" of a rule"),
            (Rule::any().host("a/b"), "the host \"a/b\" of a rule"),
            (Rule::any().host("a.*.com"), "the host \"a.*.com\" of a rule"),
            (Rule::any().host("*.a.com:80"), "the host \"*.a.com:80\" of a rule"),
            (Rule::any().host("me@a"), "the host \"me@a\" of a rule"),
            (Rule::any().host("a:"), "the host \"a:\" of a rule"),
            (Rule::any().host("a:99999"), "the host \"a:99999\" of a rule"),
            (Rule::any().bypass().with(|policy| policy), "both bypass() and with()"),
            (Rule::prefix("/a").with(zero), "in the rule for the prefix \"/a\": wait_limit is 0"),
        ] {
            let error = compile(&rule).expect_err("refused");
            assert!(error.to_string().contains(message), "{rule:?}: {error}");
        }
    }

    #[test]
    fn tag_can_contain_only_parameters_of_the_path() {
        for (rule, tag, valid) in [
            (Rule::pattern("/a/{id}"), "x:{id}", true),
            (Rule::pattern("/a/{id:[0-9]+}"), "x:{id}", true),
            (Rule::pattern("/a/{tail}*"), "x:{tail}", true),
            (Rule::pattern("/a/{id:[0-9]{2}}"), "x:{2}", false),
            (Rule::pattern("/a/{id}"), "x:{name}", false),
            (Rule::pattern("/a/{id}"), "x:{id", false),
            (Rule::path("/a"), "x:{id}", false),
            (Rule::any(), "x", true),
        ] {
            let rule = rule.with(move |policy| policy.tag(tag));
            assert_eq!(compile(&rule).is_ok(), valid, "{rule:?} {tag}");
        }
        let rule = Rule::path("/a").with(|policy| policy.tag("x:{id}"));
        let error = compile(&rule).unwrap_err();
        assert!(error.to_string().contains("x:{id}"), "{error}");
    }

    #[test]
    fn rule_with_a_predicate_may_match_a_url() {
        let url_match = |rule: &Rule, path: &str| {
            let (host, query) = ("a".to_owned(), None);
            let url = UrlTarget { host, path: path.to_owned(), query };
            compile(rule).unwrap().matches_url(&url, &Method::GET, path)
        };
        assert_eq!(url_match(&Rule::path("/a"), "/a"), UrlMatch::Yes);
        assert_eq!(url_match(&Rule::path("/a"), "/b"), UrlMatch::No);
        assert_eq!(url_match(&Rule::path("/a").host("A"), "/a"), UrlMatch::Yes);
        assert_eq!(url_match(&Rule::path("/a").host("b"), "/a"), UrlMatch::No);
        let any_host = UrlTarget { host: String::new(), path: "/a".to_owned(), query: None };
        let of_host = compile(&Rule::path("/a").host("b")).unwrap();
        assert_eq!(of_host.matches_url(&any_host, &Method::GET, "/a"), UrlMatch::Maybe);
        assert_eq!(url_match(&Rule::any().method(Method::HEAD), "/a"), UrlMatch::Yes);
        assert_eq!(url_match(&Rule::any().method(Method::POST), "/a"), UrlMatch::No);
        assert_eq!(url_match(&Rule::path("/a").when(|_| false), "/a"), UrlMatch::Maybe);
        assert_eq!(url_match(&Rule::path("/a").relative(), "/blog/a"), UrlMatch::Maybe);
        assert_eq!(url_match(&Rule::path("/a").relative().host("b"), "/blog/a"), UrlMatch::No);
        let posts = compile(&Rule::path("/a").method(Method::POST)).unwrap();
        assert_eq!(posts.matches_url(&any_host, &Method::POST, "/a"), UrlMatch::Yes);
    }
}
