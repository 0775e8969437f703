//! A copy of the header fields of a request, for the time after the handler has taken the request.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::fields::Fields;

/// The header fields of a request as the cache received them.
///
/// Few of them are read when the handler has responded: those that `Vary` names, and the conditions of
/// the client if there are any. A copy in this form takes less time than a copy of the map.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestFields(Box<[(HeaderName, HeaderValue)]>);

impl RequestFields {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        let mut fields = Vec::with_capacity(request.len());
        for (name, value) in request {
            fields.push((name.clone(), value.clone()));
        }
        Self(fields.into_boxed_slice())
    }

    /// Returns the fields as a map, for conditions and ranges, which few requests have.
    pub(crate) fn to_map(&self) -> HeaderMap {
        self.0.iter().cloned().collect()
    }

    /// Removes the fields that `keep` does not accept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&HeaderName) -> bool) {
        let kept = self.0.iter().filter(|(name, _)| keep(name));
        self.0 = kept.cloned().collect();
    }
}

impl Fields for RequestFields {
    fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.0.iter().filter(move |(found, _)| found == name);
        lines.map(|(_, value)| value.as_bytes())
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
