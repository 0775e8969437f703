//! Computes the fingerprint of a policy. Only policies with equal fingerprints share stored
//! responses.
//!
//! Each cache key contains the fingerprint, which covers the settings that decide
//!
//! * which requests share a response,
//! * which requests carry credentials, so that their responses may be meant for one client only,
//! * which kinds of responses are stored (for example, responses with `Set-Cookie`),
//! * which tags a response has,
//! * how the cache changes the fields of a response before it is stored.
//!
//! Two policies that differ in these settings must not share stored responses. Otherwise, a
//! response that one policy stores could be sent to a wrong client under the other policy, or could
//! be missed by a purge.
//!
//! The fingerprint does not cover settings that only affect lifetimes, limits and entity tags for
//! clients, or the requests whose body is part of the cache key: the key contains the method and the
//! body. It does not cover whether `No-Vary-Search` is honored, because the key contains the field. It
//! does not cover copies in content codings, because a stored response says itself whether it may
//! have such copies. It does not cover the settings that add fields, cookies or computed values to
//! the cache key either, because the cache key contains these values.
//!
//! Processes of different builds share stored responses through a store, so the fingerprint must
//! not depend on the build. The fingerprint is the beginning of the SHA-256 digest of the encoded
//! settings. In the encoding, a number stands for each variant of a setting, and these numbers
//! never change. Every other change of the encoding needs a new [`VERSION`].

use std::fmt::Write;

use actix_web::http::Method;
use sha2::{Digest, Sha256};

use super::{
    query::{ParameterNames, ParameterOrder, QueryKey},
    rule::{ComparedPath, PathRule, Rule},
    settings::Policy,
    tagging::Tagging,
    values::{AuthorizedRequests, PostResponses},
};
use crate::{
    entry::length_prefixed::{append_optional, append_part},
    semantics::{
        client_lifetime::ClientHeaders,
        requester::CookieMeaning,
        storing::{AnyStatus, Qualified, SetCookie},
        vary::{Codings, Languages},
    },
};

/// The version of the encoding.
const VERSION: u8 = 2;

/// The number of digest bytes in a fingerprint.
const LENGTH: usize = 8;

/// The rule to which a policy belongs.
#[derive(Debug)]
pub(super) struct RuleOrigin<'a> {
    pub(super) rule: &'a Rule,
    /// The number of earlier rules of the cache with the same path, methods and hosts.
    pub(super) ordinal: usize,
    /// The policy of the cache.
    pub(super) base: &'a Policy,
}

impl RuleOrigin<'_> {
    /// Returns whether the rule gave its policy a function that the policy of the cache does not
    /// have.
    fn adds_function(&self, policy: &Policy) -> bool {
        let known: Vec<_> = self.base.functions().collect();
        policy.functions().any(|function| !known.contains(&function))
    }
}

/// The digest of the default policy at this [`VERSION`]. It stays as it is if the defaults change, so
/// that builds with different defaults share no stored responses.
const DEFAULT: &str = "81b0ffb3d0896b38";

/// Returns the fingerprint as hexadecimal text. The text is empty for the default policy, and for all
/// policies that may share stored responses with that policy. `rule` is the rule to which the policy
/// belongs.
pub(super) fn fingerprint(policy: &Policy, rule: Option<&RuleOrigin<'_>>) -> String {
    let digest = digest(policy, rule);
    if digest == DEFAULT { String::new() } else { digest }
}

fn digest(policy: &Policy, rule: Option<&RuleOrigin<'_>>) -> String {
    let mut text = String::with_capacity(2 * LENGTH);
    for byte in Sha256::digest(encode(policy, rule)).iter().take(LENGTH) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn encode(policy: &Policy, rule: Option<&RuleOrigin<'_>>) -> Vec<u8> {
    let mut encoder = Encoder(Vec::new());
    encoder.number(VERSION);
    // Settings that decide which requests carry credentials.
    encoder.set(&policy.cookies.ignored, Case::Sensitive);
    encoder.set(&policy.credentials, Case::Insensitive);
    // The functions of a policy cannot be compared with those of other processes, so only their
    // number counts.
    encoder.count(policy.credentials_when.len());
    encoder.number(match policy.cookie_meaning {
        CookieMeaning::Identity => 0,
        CookieMeaning::Ordinary => 1,
    });
    // Settings that decide which responses are stored.
    encoder.number(match policy.choices.any_status {
        AnyStatus::Usual => 0,
        AnyStatus::Final => 1,
    });
    encoder.number(match policy.choices.set_cookie {
        SetCookie::Refused => 0,
        SetCookie::Stored => 1,
    });
    encoder.number(match policy.choices.qualified {
        Qualified::AsUnqualified => 0,
        Qualified::ByField => 1,
    });
    encoder.number(match policy.post_responses {
        PostResponses::NotStored => 0,
        PostResponses::Stored => 1,
    });
    let targeted_fields = policy.targeted_fields.iter().map(|name| name.to_ascii_lowercase());
    encoder.list(targeted_fields);
    // Settings that decide which requests share a stored response.
    encoder.optional_query(policy.query.as_ref());
    encoder.languages(&policy.languages);
    encoder.codings(&policy.codings);
    // Settings that decide which tags a response has.
    encoder.set(&policy.tag_fields, Case::Insensitive);
    encoder.tags(&policy.tags, rule.map(|origin| &origin.rule.path));
    // Rules of one cache can have different functions with equal names.
    if let Some(origin) = rule.filter(|origin| origin.adds_function(policy)) {
        encoder.path(Some(&origin.rule.path));
        encoder.list(origin.rule.methods.iter().map(Method::as_str));
        encoder.list(origin.rule.hosts.iter());
        encoder.count(origin.ordinal);
    }
    // Later settings are encoded only if they differ from their defaults, each after its name.
    if policy.per_user.is_some() {
        encoder.text("per_user");
    }
    if policy.authorized_requests == AuthorizedRequests::Shared {
        encoder.text("share_authorized");
    }
    if !policy.store_tests.is_empty() {
        encoder.text("store_if");
        encoder.count(policy.store_tests.len());
    }
    if !policy.left_out.is_empty() {
        encoder.text("leave_out");
        encoder.set(&policy.left_out, Case::Insensitive);
    }
    // The parameters of a relative path are another part of the path of a request.
    if let Some(origin) = rule.filter(|origin| origin.rule.compared == ComparedPath::BelowScope)
        && (origin.adds_function(policy) || policy.tags.iter().any(Tagging::has_parameter))
    {
        encoder.text("relative");
    }
    // Settings that decide how the cache changes the fields of stored responses.
    if !policy.emitted_tag_fields.is_empty() {
        encoder.text("emit_tags");
        encoder.set(&policy.emitted_tag_fields, Case::Insensitive);
    }
    match policy.client_lifetimes.headers {
        ClientHeaders::WithLifetime => {}
        ClientHeaders::Untouched => {
            encoder.text("client_headers");
            encoder.number(1);
        }
    }
    encoder.0
}

/// Whether names are compared with regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Sensitive,
    Insensitive,
}

/// An encoder that appends values to a list of bytes. Different sequences of values give different
/// bytes.
struct Encoder(Vec<u8>);

impl Encoder {
    fn number(&mut self, number: u8) {
        append_part(&mut self.0, &[number]);
    }

    fn count(&mut self, count: usize) {
        append_part(&mut self.0, count.to_string().as_bytes());
    }

    fn text(&mut self, text: &str) {
        append_part(&mut self.0, text.as_bytes());
    }

    /// Appends texts whose order matters.
    fn list(&mut self, texts: impl ExactSizeIterator<Item = impl AsRef<str>>) {
        self.count(texts.len());
        for text in texts {
            self.text(text.as_ref());
        }
    }

    /// Appends names whose order and repetition do not matter.
    fn set(&mut self, names: &[String], case: Case) {
        let mut names = names.to_vec();
        if case == Case::Insensitive {
            for name in &mut names {
                name.make_ascii_lowercase();
            }
        }
        names.sort_unstable();
        names.dedup();
        self.list(names.iter());
    }

    fn optional_query(&mut self, query: Option<&QueryKey>) {
        let Some(query) = query else { return append_optional(&mut self.0, None) };
        match &query.names {
            ParameterNames::All => self.number(0),
            ParameterNames::Only(names) => {
                self.number(1);
                self.set(names, Case::Sensitive);
            }
            ParameterNames::Ignoring(names) => {
                self.number(2);
                self.set(names, Case::Sensitive);
            }
        }
        self.number(match query.order {
            ParameterOrder::AsSent => 0,
            ParameterOrder::Sorted => 1,
        });
    }

    /// Appends the path of a rule, whose parameters are parts of tags.
    fn path(&mut self, rule: Option<&PathRule>) {
        let (kind, path) = match rule {
            None | Some(PathRule::Any) => (0, ""),
            Some(PathRule::Exact(path)) => (1, path.as_str()),
            Some(PathRule::Prefix(path)) => (2, path.as_str()),
            Some(PathRule::Pattern(path)) => (3, path.as_str()),
            #[cfg(feature = "regex")]
            Some(PathRule::Regex(path)) => (4, path.as_str()),
        };
        self.number(kind);
        self.text(path);
    }

    fn languages(&mut self, languages: &Languages) {
        match languages {
            Languages::AsSent => self.number(0),
            Languages::CaseFolded => self.number(1),
            Languages::Best(tags) => {
                self.number(2);
                self.list(tags.iter());
            }
        }
    }

    fn codings(&mut self, codings: &Codings) {
        match codings {
            Codings::AsSent => self.number(0),
            Codings::Offered(codings) => {
                self.number(1);
                self.list(codings.iter());
            }
        }
    }

    /// Appends tags. A function cannot be encoded, so all functions have equal encodings.
    fn tags(&mut self, tags: &[Tagging], rule: Option<&PathRule>) {
        self.count(tags.len());
        for tag in tags {
            match tag {
                Tagging::Text(text) => {
                    self.text(text);
                    if tag.has_parameter() {
                        self.path(rule);
                    }
                }
                Tagging::Computed(_) => append_optional(&mut self.0, None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::store_if::StoreDecision, *};

    fn of(policy: Policy) -> String {
        fingerprint(&policy, None)
    }

    /// Returns the fingerprint of the policy of a rule for a path.
    fn of_rule(rule: &Rule, policy: Policy) -> String {
        let base = policy.clone();
        fingerprint(&policy, Some(&RuleOrigin { rule, ordinal: 0, base: &base }))
    }

    /// Processes of different builds share one store, so these expected fingerprints must never
    /// change.
    #[test]
    fn fingerprint_is_the_same_in_every_build() {
        let posts = || Rule::pattern("/posts/{id}");
        for (policy, rule, want) in [
            (Policy::new(), None, ""),
            (Policy::rfc9111(), None, "f40cc54234663d96"),
            (
                Policy::new().ignore_cookies(["_ga", "_gid"]).credentials(["X-Mine"]),
                Some(posts()),
                "753a64721c01a35d",
            ),
            (
                Policy::new()
                    .query(QueryKey::ignoring(["utm_*"]).then_sorted())
                    .vary_languages(["de", "en"])
                    .vary_codings(["br", "gzip"])
                    .tag("site")
                    .tag("post:{id}")
                    .tag_with(|_| None)
                    .tag_fields(["Cache-Tag"]),
                Some(posts()),
                "7f11ff3ff7499986",
            ),
        ] {
            let base = Policy::new();
            let origin = rule.as_ref().map(|rule| RuleOrigin { rule, ordinal: 0, base: &base });
            assert_eq!(fingerprint(&policy, origin.as_ref()), want, "{policy:?} {rule:?}");
        }
    }

    #[test]
    fn order_and_repetition_of_names_do_not_change_the_fingerprint() {
        let new = Policy::new;
        let query = |query| new().query(query);
        for (one, other) in [
            (new().ignore_cookies(["a", "b"]), new().ignore_cookies(["b", "a", "a"])),
            (new().credentials(["x-a", "x-b"]), new().credentials(["X-B"]).credentials(["x-a"])),
            (new().tag_fields(["a", "b"]), new().tag_fields(["B", "A"])),
            (new().emit_tags("a").emit_tags("b"), new().emit_tags("B").emit_tags("A")),
            (new().targeted_fields(["x-a"]), new().targeted_fields(["X-A"])),
            (query(QueryKey::only(["a", "b"])), query(QueryKey::only(["b", "a"]))),
            (query(QueryKey::ignoring(["a", "b"])), query(QueryKey::ignoring(["b", "a"]))),
            (new().leave_out(["x-a", "x-b"]), new().leave_out(["X-B"]).leave_out(["X-A"])),
            (new().vary_codings(["BR"]), new().vary_codings(["br"])),
        ] {
            assert_ne!(of(one.clone()), "");
            assert_eq!(of(one), of(other));
        }
    }

    #[test]
    fn lifetimes_limits_and_key_parts_do_not_change_the_fingerprint() {
        let secs = Duration::from_secs;
        let policy = Policy::new()
            .default_ttl(secs(9))
            .status_ttl(404, secs(9))
            .override_ttl(secs(9))
            .override_status_ttl(404, secs(9))
            .never_store_status([410])
            .heuristic_freshness()
            .honor_request_directives()
            .stale_while_revalidate(secs(9))
            .stale_if_error(secs(9))
            .refresh_ahead(9)
            .jitter(9)
            .wait_limit(secs(9))
            .background_limit(secs(9))
            .drain_limit(secs(9))
            .keep_stale(secs(9))
            .max_body_size(9)
            .cache_queries(9)
            .request_body_limit(secs(9))
            .ignore_no_vary_search()
            .client_ttl(secs(9))
            .cdn_ttl(secs(9))
            .client_headers(ClientHeaders::WithLifetime)
            .remove_targeted_fields()
            .remove_tag_fields()
            .purge_paths_by_requests()
            .fetch_on_head()
            .vary_cookie("a")
            .trusted_proxies(["::1"])
            .anonymous_only()
            .key_header("x-a")
            .key_with("a", |_| None)
            .no_content_tags();
        assert_eq!(of(policy.clone()), "");
        assert_eq!(of_rule(&Rule::path("/a"), policy.clone()), "");
        assert_eq!(of_rule(&Rule::path("/a").relative(), policy.clone()), "");
        assert_eq!(of(policy.pass_queries().cache_posts_by_body(9)), "");
    }

    #[test]
    fn settings_that_separate_policies_change_the_fingerprint() {
        let new = Policy::new;
        let sorted = QueryKey::sorted;
        let fingerprints = [
            of(new()),
            of(new().ignore_cookies(["a"])),
            of(new().ignore_cookies(["A"])),
            of(new().ignore_cookies(["a", "b"])),
            of(new().ignore_cookies(["ab"])),
            of(new().credentials(["a"])),
            of(new().replay_set_cookie()),
            of(new().share_despite_cookies()),
            of(new().honor_qualified_directives()),
            of(new().targeted_fields(["a"])),
            of(new().targeted_fields(["a", "b"])),
            of(new().targeted_fields(["b", "a"])),
            of(new().fold_language_case()),
            of(new().vary_languages(["a"])),
            of(new().vary_languages(["a", "b"])),
            of(new().vary_languages(["b", "a"])),
            of(new().vary_codings(["a"])),
            of(Policy::rfc9111()),
            of(new().query(sorted())),
            of(new().query(QueryKey::only(["a"]))),
            of(new().query(QueryKey::only(["a"]).then_sorted())),
            of(new().query(QueryKey::ignoring(["a"]))),
            of(new().tag("a")),
            of(new().tag("a").tag("b")),
            of(new().tag_with(|_| None)),
            of(new().tag_fields(["a"])),
            of(new().per_user(|_| None)),
            of(new().share_authorized()),
            of(new().share_authorized().per_user(|_| None)),
            of(new().leave_out(["x-a"])),
            of(new().leave_out(["x-a*"])),
            of(new().store_if(|_, _| StoreDecision::Store)),
            of(new().store_if(|_, _| StoreDecision::Store).store_if(|_, _| StoreDecision::Store)),
            of(new().emit_tags("a")),
            of(new().client_headers(ClientHeaders::Untouched)),
            of(new().emit_tags("a").emit_tags("b")),
            of_rule(&Rule::pattern("/{a}"), new().tag("{a}")),
            of_rule(&Rule::pattern("/{a}/{b}"), new().tag("{a}")),
            of_rule(&Rule::pattern("/{a}"), new().tag("{a}").tag("a")),
            of_rule(&Rule::pattern("/{a}").relative(), new().tag("{a}")),
        ];
        for (index, one) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[index + 1..].contains(one), "{index}");
        }
        let mut posts = new();
        posts.post_responses = PostResponses::Stored;
        let mut any_status = new();
        any_status.choices.any_status = AnyStatus::Final;
        assert!(!fingerprints.contains(&of(posts)) && !fingerprints.contains(&of(any_status)));
    }
}
