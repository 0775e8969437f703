//! The cache keys of the URLs that a thread looks up most often. A thread that serves a hot page need
//! not make the key of its URL again for each request.

use std::cell::RefCell;

use crate::entry::key::CacheKey;

/// The number of keys that a thread keeps.
const KEPT: usize = 64;

/// The longest host and request target, in bytes, whose key is kept.
const MAX_LENGTH: usize = 512;

thread_local! {
    static RECENT: RefCell<[Place; KEPT]> = const { RefCell::new([const { Place::EMPTY }; KEPT]) };
}

/// The parts of a request from which a policy makes its cache key.
#[derive(Clone, Copy)]
pub(super) struct UrlOfRequest<'a> {
    /// The id of the policy in the process.
    pub(super) policy: u64,
    pub(super) scheme: &'static str,
    /// The value of `Host`.
    pub(super) host: &'a [u8],
    /// The path and the query.
    pub(super) target: &'a [u8],
}

/// A place for one of the keys whose URLs have equal digests.
struct Place {
    /// The digest of the latest URL that had this place. Its key is kept if the URL comes again before
    /// another one, so that URLs that are requested once displace no others.
    latest: u64,
    kept: Option<Kept>,
}

struct Kept {
    policy: u64,
    scheme: &'static str,
    host: Box<[u8]>,
    target: Box<[u8]>,
    key: CacheKey,
}

impl Place {
    const EMPTY: Self = Self { latest: 0, kept: None };
}

impl Kept {
    fn is_of(&self, url: UrlOfRequest<'_>) -> bool {
        self.policy == url.policy
            && *self.target == *url.target
            && *self.host == *url.host
            && self.scheme == url.scheme
    }
}

impl UrlOfRequest<'_> {
    /// Returns the key of the URL: the kept one, or the one that `make` returns.
    pub(super) fn key<E>(self, make: impl FnOnce() -> Result<CacheKey, E>) -> Result<CacheKey, E> {
        if self.host.len() + self.target.len() > MAX_LENGTH {
            return make();
        }
        RECENT.with_borrow_mut(|places| {
            let digest = self.digest();
            let Some(place) = places.get_mut((digest >> 32) as usize % KEPT) else { return make() };
            if let Some(kept) = place.kept.as_ref().filter(|kept| kept.is_of(self)) {
                return Ok(kept.key.clone());
            }
            let key = make()?;
            if place.latest == digest {
                place.kept = Some(self.keep(&key));
            }
            place.latest = digest;
            Ok(key)
        })
    }

    /// Returns a number that depends on the length and the last bytes of the target. Targets with equal
    /// numbers only displace each other.
    fn digest(self) -> u64 {
        let tail = self.target.last_chunk().map_or_else(
            || self.target.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte)),
            |tail| u64::from_le_bytes(*tail),
        );
        (tail ^ self.target.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn keep(self, key: &CacheKey) -> Kept {
        let Self { policy, scheme, host, target } = self;
        Kept { policy, scheme, host: host.into(), target: target.into(), key: key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn url(
        policy: u64,
        scheme: &'static str,
        host: &'static str,
        target: &'static str,
    ) -> UrlOfRequest<'static> {
        UrlOfRequest { policy, scheme, host: host.as_bytes(), target: target.as_bytes() }
    }

    /// Returns the key of a URL, and whether it was made again.
    fn key(url: UrlOfRequest<'_>) -> (CacheKey, bool) {
        let mut is_made = false;
        let key = url.key(|| {
            is_made = true;
            let text = |bytes| str::from_utf8(bytes).unwrap();
            let namespace = url.policy.to_string();
            let (host, target) = (text(url.host), text(url.target));
            Ok::<_, Infallible>(CacheKey::new(&namespace, url.scheme, host, target, None))
        });
        (key.unwrap(), is_made)
    }

    #[test]
    fn url_that_comes_twice_is_kept() {
        let page = url(1, "http", "a", "/");
        let first = key(page);
        assert!(first.1 && key(page).1, "a single request does not keep the key");
        assert_eq!(key(page), (first.0, false));
    }

    #[test]
    fn urls_that_differ_in_one_part_have_their_own_keys() {
        let urls = [
            url(1, "http", "a", "/long/path"),
            url(2, "http", "a", "/long/path"),
            url(1, "https", "a", "/long/path"),
            url(1, "http", "b", "/long/path"),
            url(1, "http", "a", "/lung/path"),
            url(1, "http", "a", "/"),
            url(1, "http", "a", "/a"),
        ];
        let keys = urls.map(|url| key(url).0);
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(key), "{n}");
        }
        for _ in 0..3 {
            for (url, want) in urls.iter().zip(&keys) {
                let repeated = [key(*url), key(*url), key(*url)];
                assert!(repeated.iter().all(|(found, _)| found == want));
                assert!(!repeated[2].1);
            }
        }
    }

    #[test]
    fn url_that_comes_once_displaces_no_other() {
        let (page, other) =
            (url(1, "http", "a", "/1/tail-tail"), url(1, "http", "a", "/2/tail-tail"));
        assert_eq!(page.digest(), other.digest(), "the digests are of the tail");
        for url in [page, page, page] {
            key(url);
        }
        assert!(!key(page).1);
    }

    #[test]
    fn long_url_is_not_kept() {
        let long: &'static str = "/".repeat(MAX_LENGTH).leak();
        for _ in 0..3 {
            assert!(key(url(1, "http", "a", long)).1);
        }
    }
}
