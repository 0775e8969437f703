//! Options that a cache knows by a name, so that routes can refer to them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{options::ResponseOptions, outcome::NotStored, policy::error::ConfigError};

/// The named options of a cache. Caches that are made from it have the same ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamedOptions {
    options: Vec<(String, ResponseOptions)>,
    /// The names that routes refer to and that do not exist. Each of them is logged once.
    unknown: Arc<Mutex<Vec<&'static str>>>,
}

impl NamedOptions {
    pub(crate) fn add(&mut self, name: String, options: ResponseOptions) {
        self.options.push((name, options));
    }

    /// Checks that each name is used once, and that the tags are not empty.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (position, (name, options)) in self.options.iter().enumerate() {
            if name.is_empty() {
                return Err(ConfigError::EmptyOptionsName);
            }
            if self.options.iter().take(position).any(|(earlier, _)| earlier == name) {
                return Err(ConfigError::RepeatedOptions(name.clone()));
            }
            if options.has_empty_tag() {
                return Err(ConfigError::EmptyTag);
            }
        }
        Ok(())
    }

    /// Returns the options with a name.
    ///
    /// # Errors
    ///
    /// Returns [`NotStored::UnknownOptions`] if there are none. The first error for a name is
    /// logged.
    pub(crate) fn find(&self, name: &'static str) -> Result<&ResponseOptions, NotStored> {
        let found = self.options.iter().find(|(known, _)| known == name);
        found.map(|(_, options)| options).ok_or_else(|| {
            if self.is_new(name) {
                log::error!("{}", self.unknown_name(name));
            }
            NotStored::UnknownOptions(name)
        })
    }

    /// Remembers an unknown name. Returns whether it is the first time.
    fn is_new(&self, name: &'static str) -> bool {
        // A panic cannot leave the list incomplete.
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !unknown.contains(&name);
        if is_new {
            unknown.push(name);
        }
        is_new
    }

    fn unknown_name(&self, name: &str) -> String {
        let known: Vec<_> = self.options.iter().map(|(known, _)| format!("{known:?}")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!(
            "CachePolicy::named({name:?}) refers to options that the cache does not have, so its \
             responses are not stored: add them by CacheBuilder::options, or use one of the known \
             names ({known})"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn named(names: &[&str]) -> NamedOptions {
        let mut options = NamedOptions::default();
        for (seconds, name) in (1..).zip(names) {
            let ttl = Duration::from_secs(seconds);
            options.add((*name).to_owned(), ResponseOptions::new().ttl(ttl));
        }
        options
    }

    #[test]
    fn options_are_found_by_their_name() {
        let options = named(&["a", "b"]);
        let want = ResponseOptions::new().ttl(Duration::from_secs(2));
        assert_eq!(options.find("b"), Ok(&want));
        assert_eq!(options.find("B"), Err(NotStored::UnknownOptions("B")));
    }

    #[test]
    fn unknown_name_is_reported_once_with_the_known_names() {
        let options = named(&["a", "b"]);
        assert!(options.is_new("c") && !options.clone().is_new("c") && options.is_new("d"));
        let text = options.unknown_name("c");
        assert!(text.contains("(\"a\", \"b\")") && text.contains("named(\"c\")"), "{text}");
        assert!(NamedOptions::default().unknown_name("c").contains("(none)"));
    }

    #[test]
    fn invalid_options_are_refused_with_advice() {
        let mut tagged = NamedOptions::default();
        tagged.add("a".to_owned(), ResponseOptions::new().tag(""));
        for (options, message) in [
            (named(&["a", ""]), "options have an empty name"),
            (named(&["a", "b", "a"]), "\"a\" are set twice"),
            (tagged, "tag"),
        ] {
            let error = options.check().expect_err("refused").to_string();
            assert!(error.contains(message), "{error}");
        }
        assert_eq!(named(&["a", "b"]).check(), Ok(()));
    }
}
