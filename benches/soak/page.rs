//! The pages of the application, and the check of their bodies.

use std::fmt;

/// The length of a mark in bytes.
const MARK: usize = 64;

/// The lengths of bodies in bytes. Each is a multiple of the length of a mark.
const LENGTHS: [usize; 3] = [2 * 1024, 100 * 1024, 1024 * 1024];

/// The number of pages of each kind and length.
const PAGES: u64 = 6;

/// The number of tags. Each page has one of them.
const TAGS: u64 = 5;

/// The user of requests without credentials, and of bodies for all users.
pub(crate) const ANONYMOUS: &str = "none";

/// A way in which the application sends a page. The first segment of the path names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A body in one piece.
    Whole,
    /// A body in pieces, with `Content-Length`.
    Pieces,
    /// A body in pieces without `Content-Length`.
    Chunked,
    /// A body in one piece. The handler answers 304 to each request with a validator.
    Lasting,
    /// A body that names the user of the request.
    Personal,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Whole, Self::Pieces, Self::Chunked, Self::Lasting, Self::Personal];

    /// The kinds whose handlers make a new body at each call.
    pub(crate) const NEW_BODIES: [Self; 3] = [Self::Whole, Self::Pieces, Self::Chunked];

    /// The kinds whose bodies are equal for all users.
    pub(crate) const SHARED: [Self; 4] = [Self::Whole, Self::Pieces, Self::Chunked, Self::Lasting];

    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Pieces => "pieces",
            Self::Chunked => "chunked",
            Self::Lasting => "lasting",
            Self::Personal => "personal",
        }
    }
}

/// A page of the application.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) kind: Kind,
    pub(crate) length: usize,
    n: u64,
    /// A query that makes the URL unique.
    query: Option<u64>,
}

impl Page {
    /// Chooses a page of one of the kinds.
    pub(crate) fn choose(random: &mut Random, kinds: &[Kind]) -> Self {
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let length = LENGTHS[random.below(LENGTHS.len() as u64) as usize];
        Self { kind, length, n: random.below(PAGES), query: None }
    }

    /// Makes the URL of the page unique, so that the cache does not have the page.
    pub(crate) fn with_query(self, query: u64) -> Self {
        Self { query: Some(query), ..self }
    }

    /// Makes the page as long as possible.
    pub(crate) fn longest(self) -> Self {
        Self { length: LENGTHS[LENGTHS.len() - 1], ..self }
    }

    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (path, query) =
            path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut segments = path.strip_prefix('/')?.split('/');
        let kind = segments.next()?;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        let length = segments.next()?.parse().ok()?;
        let n = segments.next()?.parse().ok()?;
        let query = query.map(str::parse).transpose().ok()?;
        Some(Self { kind, length, n, query })
    }

    pub(crate) fn tag(&self) -> String {
        format!("tag-{}", self.n % TAGS)
    }

    /// Returns the body: a mark with the URL, the handler call and the user, again and again.
    pub(crate) fn body(&self, call: u64, user: &str) -> Vec<u8> {
        let mark = format!("{:-<width$}\n", format!("{self}#{call}@{user}"), width = MARK - 1);
        mark.into_bytes().repeat(self.length / MARK)
    }

    /// Checks the bytes of a body from `start` on. Returns the handler call that made them, or
    /// `None` if the bytes contain no complete mark.
    pub(crate) fn check(
        &self,
        bytes: &[u8],
        start: usize,
        user: &str,
    ) -> Result<Option<u64>, String> {
        let first = (MARK - start % MARK) % MARK;
        let Some(mark) = bytes.get(first..first + MARK) else { return Ok(None) };
        let text = String::from_utf8_lossy(mark);
        let call = text
            .strip_prefix(&format!("{self}#"))
            .and_then(|rest| rest.trim_end().trim_end_matches('-').split_once('@'))
            .filter(|(_, named)| *named == user)
            .and_then(|(call, _)| call.parse().ok())
            .ok_or_else(|| format!("a body of {self} for user {user:?} has the mark {text:?}"))?;
        // Each byte equals the byte at the distance of a mark.
        if bytes[MARK..] != bytes[..bytes.len() - MARK] {
            let other = bytes.iter().zip(&bytes[MARK..]).position(|(a, b)| a != b).unwrap_or(0);
            let other = String::from_utf8_lossy(&bytes[other..(other + 3 * MARK).min(bytes.len())]);
            return Err(format!("the marks of a body of {self} differ: {text:?}, {other:?}"));
        }
        Ok(Some(call))
    }
}

/// Writes the path and the query.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}/{}", self.kind.name(), self.length, self.n)?;
        self.query.map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

/// A linear congruential generator of random numbers.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number less than `limit`.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % limit
    }

    pub(crate) const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
