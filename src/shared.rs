//! What all instances of one cache share, on all threads.

use std::{borrow::Cow, sync::Arc};

use actix_web::{
    dev::RequestHead,
    http::header::{HeaderMap, HeaderName},
};

use crate::{
    clock::Clock, entry::key::CacheKey, entry::selector::Selects, entry::url::UrlTarget,
    entry::url_keys::UrlKeys, outcome::Outcome, policy::CompiledPolicy,
    semantics::vary::selecting_value, store::erased::DynStore,
};

/// One cache: its store, its policy, its settings.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn DynStore>,
    pub(crate) checked: CompiledPolicy,
    pub(crate) settings: Settings,
}

/// A request's fields, as a cache compares them.
pub(crate) struct ComparedFields<'a> {
    pub(crate) fields: &'a HeaderMap,
    pub(crate) cache: &'a dyn UrlKeys,
}

impl Selects for ComparedFields<'_> {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        self.cache.value(self.fields, name)
    }
}

/// What scopes and routes inherit from their cache.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Observer>,
    pub(crate) cache_status: Field,
    pub(crate) x_cache: Field,
}

pub(crate) type Observer = Arc<dyn Fn(&RequestHead, &Outcome) + Send + Sync>;

/// Whether a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Written,
    Omitted,
}

/// Whether a cache does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// It does.
    #[default]
    On,
    /// Every request passes untouched, as if the cache were not there: for development.
    Off,
}

impl UrlKeys for Shared {
    fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey> {
        self.checked.keys_for_url(target)
    }

    fn has_key_parts(&self) -> bool {
        self.checked.has_key_parts()
    }

    fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey> {
        self.checked.key_for_fields(url, fields)
    }

    fn value<'a>(&self, fields: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        selecting_value(fields, name, &self.checked.comparison)
    }
}
