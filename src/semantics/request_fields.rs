//! A copy of the header fields of a request, for the time after the handler has taken the request.

use std::iter;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::fields::Fields;
use crate::entry::length_prefixed::{append_lengths, read_lengths};

/// The number of bytes for which a copy has room at first. The usual fields of a browser need less.
const ROOM: usize = 1000;

/// The header fields of a request as the cache received them.
///
/// Few of them are read when the handler has responded: those that `Vary` names, and the conditions of
/// the client if there are any. So the copy is one list of lines, each of which has the lengths of its
/// name and its value, the name, and the value. The list takes less time to make than a map, and shares no
/// memory with the buffer of the connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestFields(Vec<u8>);

impl RequestFields {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        let mut list = Vec::with_capacity(ROOM);
        for (name, value) in request {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            append_lengths(&mut list, name.len(), value.len());
            list.extend_from_slice(name);
            list.extend_from_slice(value);
        }
        Self(list)
    }

    /// Returns the fields as a map, for conditions and ranges, which few requests have.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let field = |(name, value)| {
            Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
        };
        self.iter().filter_map(field).collect()
    }

    /// Removes the fields that `keep` does not accept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&HeaderName) -> bool) {
        let mut fields = self.to_map();
        fields.retain(|name, _| keep(name));
        *self = Self::of(&fields);
    }

    /// Returns the name and the value of each line.
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.0;
        iter::from_fn(move || {
            let (name, value, after_lengths) = read_lengths(rest)?;
            let (name, after_name) = after_lengths.split_at_checked(name)?;
            let (value, others) = after_name.split_at_checked(value)?;
            rest = others;
            Some((name, value))
        })
    }
}

impl Fields for RequestFields {
    fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str().as_bytes();
        self.iter().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, COOKIE};

    use super::*;

    #[test]
    fn copied_fields_keep_their_lines_in_order() {
        let mut request = HeaderMap::new();
        for (name, value) in [(ACCEPT, "a"), (COOKIE, "c"), (ACCEPT, "b")] {
            request.append(name, HeaderValue::from_static(value));
        }
        let mut fields = RequestFields::of(&request);
        assert_eq!(fields.lines(&ACCEPT).collect::<Vec<_>>(), [b"a", b"b"]);
        let map = fields.to_map();
        for name in [&ACCEPT, &COOKIE] {
            assert!(map.lines(name).eq(request.lines(name)), "{name}");
        }
        fields.retain(|name| *name != ACCEPT);
        assert_eq!(fields.lines(&ACCEPT).count(), 0);
        assert_eq!(fields.lines(&COOKIE).count(), 1);
    }
}
