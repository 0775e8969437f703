//! Purges, expiry and invalidation by unsafe requests.

mod url_invalidation;
