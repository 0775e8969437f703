//! `Rule` in a file.

use actix_web::http::Method;
use serde::{Deserialize, Deserializer, de::Error};

use super::{
    policy_changes::PolicyChanges,
    values::{Enabled, Texts},
};
use crate::policy::rule::Rule;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "rule")]
struct Fields {
    any: Option<Enabled>,
    path: Option<String>,
    prefix: Option<String>,
    pattern: Option<String>,
    regex: Option<String>,
    relative: bool,
    methods: Texts,
    hosts: Texts,
    bypass: bool,
    policy: Option<PolicyChanges>,
}

/// The keys are described in the [documentation of the type](Rule#in-a-file).
impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        let mut rule = fields.path_rule().map_err(D::Error::custom)?;
        if fields.relative {
            rule = rule.relative();
        }
        for method in &fields.methods.0 {
            rule = rule.method(parse_method(method).map_err(D::Error::custom)?);
        }
        rule = fields.hosts.0.into_iter().fold(rule, Self::host);
        if fields.bypass {
            rule = rule.bypass();
        }
        Ok(match fields.policy {
            Some(changes) => rule.with(move |policy| changes.apply(policy)),
            None => rule,
        })
    }
}

impl Fields {
    /// Makes a rule from the only path of the rule.
    fn path_rule(&self) -> Result<Rule, String> {
        let Self { any, path, prefix, pattern, regex, .. } = self;
        let rules = [
            any.map(|Enabled| Ok(Rule::any())),
            path.as_ref().map(|path| Ok(Rule::path(path))),
            prefix.as_ref().map(|prefix| Ok(Rule::prefix(prefix))),
            pattern.as_ref().map(|pattern| Ok(Rule::pattern(pattern))),
            regex.as_ref().map(|regex| regex_rule(regex)),
        ];
        let mut rules = rules.into_iter().flatten();
        match (rules.next(), rules.next()) {
            (Some(rule), None) => rule,
            (None, _) => Err("a rule needs one of `path`, `prefix`, `pattern` and `regex`, or \
                              `any = true` for all paths"
                .to_owned()),
            (Some(_), Some(_)) => Err("a rule can have only one of `any`, `path`, `prefix`, \
                                       `pattern` and `regex`: make several rules"
                .to_owned()),
        }
    }
}

#[cfg(feature = "regex")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature, it is an error")]
fn regex_rule(regex: &str) -> Result<Rule, String> {
    Ok(Rule::regex(regex))
}

#[cfg(not(feature = "regex"))]
fn regex_rule(_: &str) -> Result<Rule, String> {
    Err("`regex` needs the feature `regex` of actix-web-cache".to_owned())
}

fn parse_method(text: &str) -> Result<Method, String> {
    // Methods are case-sensitive (RFC 9110 section 9.1), and all registered ones are in upper case.
    let upper = text.to_ascii_uppercase();
    if text != upper {
        return Err(format!("the method {text:?} of a rule never matches: write {upper:?}"));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a method"))
}
