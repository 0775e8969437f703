//! One cache: its store, its policy and its settings, shared by all of its clones on all threads.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actix_web::{
    dev::RequestHead,
    http::header::{HeaderMap, HeaderName},
};

use crate::{
    clock::{Clock, Timestamp},
    entry::{key::CacheKey, selector::Selects, url::UrlTarget, url_keys::UrlKeys},
    outcome::Outcome,
    policy::compiled::CompiledPolicy,
    poll_once::within,
    semantics::vary::selecting_value,
    store::{erased::DynStore, interface::StoreError},
};

/// One cache: its store, its policy, its settings.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn DynStore>,
    pub(crate) policy: CompiledPolicy,
    pub(crate) settings: Settings,
    /// Set once a request could not be changed because a middleware kept a clone of it.
    pub(crate) met_cloned_request: AtomicBool,
}

impl Shared {
    /// The time by the cache's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }

    /// Waits for the store, within the time-out for writes and invalidations.
    pub(crate) async fn within_store_timeout<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.settings.store_timeout;
        let result = within(limit, call).await;
        result.unwrap_or_else(|| Err(StoreError::new(format!("it took longer than {limit:?}"))))
    }

    /// Warns about a failure of the store, at most once in an interval.
    pub(crate) fn warn_about_store(&self, error: &StoreError) {
        if self.store.coordinator().should_warn_about_store(self.now()) {
            log::warn!("{}; requests go to their handlers", error.with_cause());
        } else {
            log::trace!("{}", error.with_cause());
        }
    }
}

/// The fields of a request, in the form in which a cache compares them.
pub(crate) struct ComparedFields<'a> {
    pub(crate) fields: &'a HeaderMap,
    pub(crate) cache: &'a dyn UrlKeys,
}

impl Selects for ComparedFields<'_> {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        self.cache.value(self.fields, name)
    }
}

/// Settings that the caches of scopes and routes inherit.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Observer>,
    pub(crate) cache_status: FieldOutput,
    pub(crate) x_cache: FieldOutput,
    /// How long a request waits for a look-up before its handler is called instead.
    pub(crate) lookup_timeout: Duration,
    /// How long a write, a removal or an invalidation may take.
    pub(crate) store_timeout: Duration,
}

impl Settings {
    /// The default settings.
    pub(crate) fn new() -> Self {
        Self {
            namespace: Arc::from("default"),
            mode: Mode::On,
            clock: Clock::system(),
            observer: None,
            cache_status: FieldOutput::Written,
            x_cache: FieldOutput::Omitted,
            lookup_timeout: Duration::from_millis(50),
            store_timeout: Duration::from_millis(250),
        }
    }
}

pub(crate) type Observer = Arc<dyn Fn(&RequestHead, &Outcome) + Send + Sync>;

/// Whether a response field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldOutput {
    Written,
    Omitted,
}

/// Whether a cache stores and answers anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// The cache works.
    #[default]
    On,
    /// Every request reaches its handler untouched, as without a cache. Useful in development.
    Off,
}

/// In the extensions of a request: the innermost cache that the request has passed, and the number
/// of caches passed.
pub(crate) struct EnclosingCache {
    pub(crate) shared: Arc<Shared>,
    pub(crate) layers: u8,
}

impl UrlKeys for Shared {
    fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey> {
        self.policy.keys_for_url(target)
    }

    fn has_key_parts(&self) -> bool {
        self.policy.has_key_parts()
    }

    fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey> {
        self.policy.key_for_fields(url, fields)
    }

    fn value<'a>(&self, fields: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        selecting_value(fields, name, &self.policy.comparison)
    }
}
