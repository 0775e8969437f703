//! The places for background work, shared fairly: no client and no path can take all of them.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
};

use crate::entry::key::CacheKey;

/// The largest number of tasks of one kind.
pub(super) const MAX_TASKS: usize = 128;

/// The largest number of these tasks that requests of one client may cause. A reverse proxy counts
/// as one client.
pub(super) const MAX_TASKS_OF_CLIENT: usize = MAX_TASKS / 2;

/// The largest number of these tasks for one path, with whatever query.
pub(super) const MAX_TASKS_OF_PATH: usize = MAX_TASKS / 8;

/// The places for background work of one kind.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: usize,
    by_client: HashMap<IpAddr, usize>,
    /// The number of tasks by the digest of a host and path. Clients cannot make equal digests,
    /// because the digests have a random seed.
    by_path: HashMap<u64, usize>,
    digests: RandomState,
}

/// A place that a task has taken.
#[derive(Debug)]
pub(super) struct Place {
    client: Option<IpAddr>,
    path: u64,
}

impl Places {
    /// Takes a place for a task. `client` is the address of the client whose request causes the
    /// task. Returns `None` if all places are taken, or all that the client or the path may take.
    pub(super) fn take(&mut self, key: &CacheKey, client: Option<IpAddr>) -> Option<Place> {
        let path = key.url_parts().map(|parts| (parts.host, parts.path));
        let path = self.digests.hash_one(path);
        let taken = |number: Option<&usize>| number.copied().unwrap_or_default();
        let of_client = client.map_or(0, |client| taken(self.by_client.get(&client)));
        let is_free = self.taken < MAX_TASKS
            && of_client < MAX_TASKS_OF_CLIENT
            && taken(self.by_path.get(&path)) < MAX_TASKS_OF_PATH;
        if !is_free {
            return None;
        }
        self.taken += 1;
        if let Some(client) = client {
            *self.by_client.entry(client).or_default() += 1;
        }
        *self.by_path.entry(path).or_default() += 1;
        Some(Place { client, path })
    }

    pub(super) fn free(&mut self, place: &Place) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(client) = place.client {
            decrement(&mut self.by_client, client);
        }
        decrement(&mut self.by_path, place.path);
    }
}

/// Subtracts one from the number of an entry, and removes an entry that becomes zero.
fn decrement<K: Eq + Hash>(numbers: &mut HashMap<K, usize>, key: K) {
    if let Some(number) = numbers.get_mut(&key) {
        *number -= 1;
        if *number == 0 {
            numbers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str, query: usize) -> CacheKey {
        CacheKey::new("t", "http", "h", path, Some(&query.to_string()))
    }

    fn client(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([127, 0, 0, n]))
    }

    /// Takes as many places as possible, each by the next of these keys.
    fn take_all(
        places: &mut Places,
        client: Option<IpAddr>,
        key: impl Fn(usize) -> CacheKey,
    ) -> Vec<Place> {
        (0..).map_while(|n| places.take(&key(n), client)).collect()
    }

    #[test]
    fn client_takes_at_most_half_of_the_places() {
        let mut places = Places::default();
        let one = take_all(&mut places, client(1), |n| key(&format!("/one/{n}"), 0));
        assert_eq!(one.len(), MAX_TASKS_OF_CLIENT);
        let two = take_all(&mut places, client(2), |n| key(&format!("/two/{n}"), 0));
        assert_eq!(two.len(), MAX_TASKS - MAX_TASKS_OF_CLIENT);
        assert!(places.take(&key("/", 0), client(3)).is_none());
        places.free(&one[0]);
        assert!(places.take(&key("/", 0), client(3)).is_some());
    }

    #[test]
    fn path_takes_few_places_whatever_its_queries_are() {
        let mut places = Places::default();
        let one = take_all(&mut places, client(1), |n| key("/a", n));
        assert_eq!(one.len(), MAX_TASKS_OF_PATH);
        assert!(places.take(&key("/a", 1000), client(2)).is_none());
        assert!(places.take(&key("/b", 0), client(1)).is_some());
        one.iter().for_each(|place| places.free(place));
        assert!(places.take(&key("/a", 1000), client(2)).is_some());
    }

    #[test]
    fn requests_without_a_known_client_take_all_places() {
        let mut places = Places::default();
        let all = take_all(&mut places, None, |n| key(&format!("/{n}"), 0));
        assert_eq!(all.len(), MAX_TASKS);
        all.iter().for_each(|place| places.free(place));
        assert!(places.taken == 0 && places.by_client.is_empty() && places.by_path.is_empty());
    }
}
