//! Checks the settings of a policy, and parses the field names in them.

use actix_web::http::header::{HeaderName, SET_COOKIE};

use super::{
    check::{check_status, parse_field_names},
    error::ConfigError,
    jitter::check_jitter,
    presets::{BACKGROUND_LIMIT, DRAIN_LIMIT, REQUEST_BODY_LIMIT, WAIT_LIMIT},
    settings::Policy,
    store_if::StoreTest,
    tagging::Tagging,
    values::{AuthorizedRequests, PersonalRequests, RequestTest, RequestText},
};
use crate::semantics::{
    fields::field_name,
    replayed_fields::{ESSENTIAL_FIELDS, FieldPatterns, ONE_REQUEST_FIELDS},
    requester::{CookieMeaning, FieldNames, IdentityRules},
    storing::{OneRequestFields, PolicyChoices, SetCookie},
    vary::Comparison,
};

impl Policy {
    /// Checks all settings except field names, which are checked when they are parsed.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_body_size == 0 {
            return Err(ConfigError::ZeroMaxBodySize);
        }
        for (setting, size) in
            [("cache_queries", self.query_body), ("cache_posts_by_body", self.post_body)]
        {
            if size == Some(0) {
                return Err(ConfigError::ZeroRequestBody { setting });
            }
        }
        for (setting, limit, default) in [
            ("wait_limit", self.wait_limit, WAIT_LIMIT),
            ("background_limit", self.background_limit, BACKGROUND_LIMIT),
            ("drain_limit", self.drain_limit, DRAIN_LIMIT),
            ("request_body_limit", self.request_body_limit, REQUEST_BODY_LIMIT),
        ] {
            if limit.is_zero() {
                return Err(ConfigError::ZeroLimit { setting, default });
            }
        }
        if let Some(percent) = self.refresh_ahead.filter(|percent| !(1..100).contains(percent)) {
            return Err(ConfigError::InvalidRefreshAhead(percent));
        }
        check_jitter(self.jitter)?;
        if self.override_ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(ConfigError::ZeroOverrideTtl);
        }
        let with_ttl = self.status_ttls.iter().chain(&self.override_status_ttls);
        for &status in with_ttl.map(|(status, _)| status).chain(&self.unstored_statuses) {
            check_status(status)?;
        }
        if self.key_parts.iter().any(|part| part.name.is_empty()) {
            return Err(ConfigError::EmptyKeyPartName);
        }
        let keeps_pages_of_people =
            self.per_user.is_some() || self.authorized_requests == AuthorizedRequests::Shared;
        if self.personal_requests == PersonalRequests::Excluded && keeps_pages_of_people {
            return Err(ConfigError::AnonymousOnlyWithPeople);
        }
        self.check_names()
    }

    /// Returns a value for each function in the settings. Equal values mean the same function.
    pub(super) fn functions(&self) -> impl Iterator<Item = *const ()> {
        let tests = self.credentials_when.iter().map(RequestTest::identity);
        let key_parts = self.key_parts.iter().map(|part| part.value.identity());
        let tags = self.tags.iter().filter_map(|tag| match tag {
            Tagging::Text(_) => None,
            Tagging::Computed(function) => Some(function.identity()),
        });
        let per_user = self.per_user.iter().map(RequestText::identity);
        let store_tests = self.store_tests.iter().map(StoreTest::identity);
        tests.chain(key_parts).chain(tags).chain(per_user).chain(store_tests)
    }

    /// Returns the rules that decide which requests are personal. A personal request carries
    /// credentials.
    pub(super) fn identity_rules(&self) -> Result<IdentityRules, ConfigError> {
        Ok(IdentityRules {
            cookies: self.cookies.clone(),
            credentials: FieldNames::new(parse_field_names(&self.credentials)?),
            keyed: parse_field_names(&self.key_headers)?,
            meaning: self.cookie_meaning,
        })
    }

    /// Returns the policy's choices for storing responses, with parsed field names.
    pub(super) fn policy_choices(&self) -> Result<PolicyChoices, ConfigError> {
        let targets = parse_field_names(&self.targeted_fields)?;
        let left_out = self.left_out.iter().map(|name| name.to_ascii_lowercase());
        let left_out = left_out.collect::<Vec<_>>();
        for pattern in &left_out {
            self.check_left_out(pattern, &targets)?;
        }
        let by_default: &[&str] = match self.choices.one_request_fields {
            OneRequestFields::Withheld => &ONE_REQUEST_FIELDS,
            OneRequestFields::Stored => &[],
        };
        let patterns = by_default.iter().copied().chain(left_out.iter().map(String::as_str));
        Ok(PolicyChoices {
            targets,
            left_out: FieldPatterns::new(patterns),
            ..self.choices.clone()
        })
    }

    /// Checks that a field, or all fields with a beginning, can be left out of stored responses.
    fn check_left_out(&self, pattern: &str, targets: &[HeaderName]) -> Result<(), ConfigError> {
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        let is_name = name.is_empty() || field_name(name.as_bytes()).is_some();
        if pattern.is_empty() || name.contains('*') || !is_name {
            return Err(ConfigError::InvalidFieldName(pattern.to_owned()));
        }
        let fields = FieldPatterns::new([pattern]);
        let refused = match self.choices.set_cookie {
            SetCookie::Refused => &[SET_COOKIE][..],
            SetCookie::Stored => &[],
        };
        let mut essential = ESSENTIAL_FIELDS.iter().chain(targets).chain(refused);
        let is_content = name.starts_with("content-");
        if is_content || essential.any(|essential| fields.contains(essential)) {
            return Err(ConfigError::EssentialField(pattern.to_owned()));
        }
        Ok(())
    }

    /// Returns the rules by which selecting fields (the request fields that `Vary` names) are
    /// normalized before the cache compares them.
    pub(super) fn comparison(&self) -> Comparison {
        Comparison {
            cookies: self.cookies.clone(),
            languages: self.languages.clone(),
            codings: self.codings.clone(),
        }
    }

    /// Returns whether cookies never count as credentials of a request: the policy ignores all
    /// cookies, or has the setting [`share_despite_cookies`](Self::share_despite_cookies).
    pub(super) fn ignores_all_cookies(&self) -> bool {
        self.cookie_meaning == CookieMeaning::Ordinary
            || self.cookies.ignored.iter().any(|name| name == "*")
    }
}
