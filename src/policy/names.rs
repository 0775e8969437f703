//! Checks the names in the settings of a policy: names that can never occur in a request or a
//! response are mistakes that would otherwise have no visible effect.

use super::{
    error::ConfigError,
    query::{ParameterNames, QueryKey},
    response_tags::MAX_LENGTH,
    settings::Policy,
    tagging::Tagging,
};
use crate::semantics::vary::{Codings, Languages};

/// The registered content codings (RFC 9110 section 18.6), which are the names in
/// `Accept-Encoding` and `Content-Encoding`.
const CODINGS: &[&str] = &[
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "exi",
    "gzip",
    "identity",
    "pack200-gzip",
    "x-compress",
    "x-gzip",
    "zstd",
];

impl Policy {
    /// Checks the names of cookies, parameters, languages, codings and tags.
    pub(super) fn check_names(&self) -> Result<(), ConfigError> {
        self.check_cookie_names()?;
        self.query.as_ref().map_or(Ok(()), check_parameter_names)?;
        if let Languages::Best(tags) = &self.languages {
            check_languages(tags)?;
        }
        if let Codings::Offered(codings) = &self.codings {
            check_codings(codings)?;
        }
        self.tags.iter().try_for_each(check_tag)
    }

    fn check_cookie_names(&self) -> Result<(), ConfigError> {
        let (ignored, keyed) = (&self.cookies.ignored, &self.cookies.keyed);
        for name in ignored {
            check_star("ignore_cookies", name, name.strip_suffix('*').unwrap_or(name))?;
        }
        for name in keyed {
            check_star("vary_cookie", name, name)?;
        }
        for name in ignored.iter().chain(keyed) {
            if name.is_empty() {
                return Err(ConfigError::EmptyCookieName);
            }
            // Requests separate cookies by semicolons, and the name from the value by an equals
            // sign. White space around names is not part of them.
            if name.contains(['=', ';', ',']) || name.contains(char::is_whitespace) {
                return Err(ConfigError::InvalidCookieName(name.clone()));
            }
        }
        // A pattern can match a cookie of the key: the cookie is an exception of the pattern.
        match keyed.iter().find(|name| ignored.contains(name)) {
            Some(name) => Err(ConfigError::CookieIgnoredAndKeyed(name.clone())),
            None => Ok(()),
        }
    }
}

/// Checks that a name has no `*`, except at its end if `literal` is the text before it.
fn check_star(setting: &'static str, name: &str, literal: &str) -> Result<(), ConfigError> {
    if literal.contains('*') {
        return Err(ConfigError::StarInName { setting, name: name.to_owned() });
    }
    Ok(())
}

fn check_parameter_names(query: &QueryKey) -> Result<(), ConfigError> {
    let (setting, names) = match &query.names {
        ParameterNames::All => return Ok(()),
        ParameterNames::Only(names) => ("QueryKey::only", names),
        ParameterNames::Ignoring(names) => ("QueryKey::ignoring", names),
    };
    let literal = |name: &str| name.strip_suffix('*').unwrap_or(name).to_owned();
    names.iter().try_for_each(|name| check_star(setting, name, &literal(name)))
}

fn check_languages(tags: &[String]) -> Result<(), ConfigError> {
    if tags.is_empty() {
        return Err(ConfigError::EmptyList { setting: "vary_languages" });
    }
    match tags.iter().find(|tag| !is_language_tag(tag)) {
        Some(tag) => Err(ConfigError::InvalidLanguage(tag.clone())),
        None => Ok(()),
    }
}

/// Returns whether a text has the form of a language tag (RFC 5646 section 2.1): a language, which
/// consists of letters, and further subtags of letters and digits. `i` and `x` begin tags of other
/// forms.
fn is_language_tag(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let language = subtags.next().unwrap_or_default();
    let is_special = matches!(language, "i" | "I" | "x" | "X");
    let is_language = (2..=8).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic());
    let has_subtags = tag.contains('-');
    (is_language || (is_special && has_subtags))
        && subtags.all(|subtag| {
            (1..=8).contains(&subtag.len())
                && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

fn check_codings(codings: &[String]) -> Result<(), ConfigError> {
    if codings.is_empty() {
        return Err(ConfigError::EmptyList { setting: "vary_codings" });
    }
    match codings.iter().find(|coding| !CODINGS.contains(&coding.as_str())) {
        Some(coding) => Err(ConfigError::UnknownCoding(coding.clone())),
        None => Ok(()),
    }
}

fn check_tag(tag: &Tagging) -> Result<(), ConfigError> {
    match tag {
        Tagging::Text(text) if text.is_empty() => Err(ConfigError::EmptyTag),
        // The value of a parameter can be shorter than its name.
        Tagging::Text(text) if text.len() > MAX_LENGTH && !text.contains('{') => {
            Err(ConfigError::TagTooLong(text.clone()))
        }
        Tagging::Text(_) | Tagging::Computed(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(policy: &Policy) -> Option<String> {
        policy.check_names().err().map(|error| error.to_string())
    }

    #[test]
    fn name_that_can_never_match_is_refused_with_advice() {
        let new = Policy::new;
        let none: [&str; 0] = [];
        for (policy, message) in [
            (new().vary_cookie(""), "empty cookie name"),
            (new().ignore_cookies([""]), "empty cookie name"),
            (new().vary_cookie("pref_*"), "name each cookie"),
            (new().ignore_cookies(["*_id"]), "use a beginning like"),
            (new().ignore_cookies(["a*b*"]), "use a beginning like"),
            (new().vary_cookie("lang=de"), "the text before the equals sign"),
            (new().ignore_cookies(["a; b"]), "the text before the equals sign"),
            (new().vary_cookie("lang").ignore_cookies(["a", "lang"]), "remove it from"),
            (new().query(QueryKey::only(["*_id"])), "QueryKey::only has the name \"*_id\""),
            (new().query(QueryKey::ignoring(["a*b"])), "QueryKey::ignoring has the name"),
            (new().vary_languages(none), "vary_languages has an empty list"),
            (new().vary_languages(["de", "de_DE"]), "\"de_DE\", which is no language tag"),
            (new().vary_languages([""]), "no language tag"),
            (new().vary_languages(["*"]), "no language tag"),
            (new().vary_languages(["deutschland"]), "no language tag"),
            (new().vary_languages(["de-"]), "no language tag"),
            (new().vary_languages(["x"]), "no language tag"),
            (new().vary_codings(none), "vary_codings has an empty list"),
            (new().vary_codings(["gzip", "Brotli"]), "\"br\" (brotli)"),
            (new().tag(""), "a tag is empty"),
            (new().tag("x".repeat(257)), "has 257 bytes"),
        ] {
            let error = error(&policy).unwrap_or_default();
            assert!(error.contains(message), "{message}: {error}");
        }
    }

    #[test]
    fn name_that_can_match_is_accepted() {
        let new = Policy::new;
        for policy in [
            new(),
            new().vary_cookie("lang").ignore_cookies(["*"]),
            new().vary_cookie("_ga_variant").ignore_cookies(["_ga*"]),
            new().query(QueryKey::only(["q", "filter_*"])),
            new().query(QueryKey::ignoring(QueryKey::tracking_parameters())),
            new().vary_languages(["de", "pt-BR", "zh-Hant-TW", "sl-IT-nedis", "i-klingon", "x-a"]),
            new().vary_codings(["br", "GZIP", "zstd", "deflate", "identity", "x-gzip"]),
            new().tag("x".repeat(256)),
            new().tag(format!("{{{}}}", "x".repeat(300))),
            new().tag_with(|_| None),
        ] {
            assert_eq!(error(&policy), None, "{policy:?}");
        }
    }
}
