//! An editor for `Cache-Control`. An edit changes only directives of one name. All other directives
//! keep their position and their text.

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

use super::{
    cache_control::{Directive, refusals, seconds},
    fields::{field_lines, has_open_quote, list_members},
};

/// The `Cache-Control` directives of a message, in the order in which they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectiveList(Vec<Vec<u8>>);

impl DirectiveList {
    /// Reads all lines of `Cache-Control`.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        Self::of_field(fields, &CACHE_CONTROL)
    }

    /// Reads all lines of `Cache-Control` or of a targeted field (RFC 9213).
    pub(crate) fn of_field(fields: &HeaderMap, name: &HeaderName) -> Self {
        Self(field_lines(fields, name).flat_map(list_members).map(<[u8]>::to_vec).collect())
    }

    /// Returns whether the list has a directive of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|member| is(member, name))
    }

    /// Sets a directive. The new directive replaces the first one of its name, or is added at the
    /// end. Further directives of the name are removed.
    pub(crate) fn set(&mut self, name: &str, argument: Option<&str>) {
        let text = argument.map_or_else(
            || name.as_bytes().to_vec(),
            |argument| [name, "=", argument].concat().into(),
        );
        let old = self.0.iter().position(|member| is_editable(member, name));
        self.remove_from(name, old.map_or(self.0.len(), |old| old + 1));
        match old.and_then(|old| self.0.get_mut(old)) {
            Some(member) => {
                let old = std::mem::replace(member, text);
                self.0.extend(other_refusals(&old, name));
            }
            None => self.0.push(text),
        }
    }

    /// Removes all directives of this name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.remove_from(name, 0);
    }

    /// Sets a directive to `limit` in seconds, unless the directive already has a smaller number.
    ///
    /// An invalid number in the directive counts as zero (RFC 9111 section 4.2.1), so the directive
    /// is then set to zero.
    pub(crate) fn limit(&mut self, name: &str, limit: Duration) {
        let old = self.0.iter().map(|member| Directive::parse(member)).filter(|d| d.is(name));
        let least = old.map(|old| old.argument.and_then(seconds).unwrap_or_default()).min();
        let seconds = least.map_or(limit, |least| least.min(limit)).as_secs();
        self.set(name, Some(&seconds.to_string()));
    }

    /// Writes `Cache-Control` in as few lines as possible. Without directives, the field is removed.
    pub(crate) fn write(&self, fields: &mut HeaderMap) {
        self.write_field(fields, &CACHE_CONTROL);
    }

    /// Writes the directives into the field `name`, in as few lines as possible. Without directives,
    /// the field is removed.
    ///
    /// A new line begins after a directive with a quoted string that lacks its closing quote.
    /// Otherwise, the quoted string would contain the directives after it.
    pub(crate) fn write_field(&self, fields: &mut HeaderMap, name: &HeaderName) {
        fields.remove(name);
        for line in self.0.split_inclusive(|member| has_open_quote(member)) {
            if let Ok(value) = HeaderValue::from_bytes(&line.join(&b", "[..])) {
                fields.append(name.clone(), value);
            }
        }
    }

    /// Removes the directives of this name whose index in the list is `start` or greater.
    fn remove_from(&mut self, name: &str, start: usize) {
        let mut index = 0;
        let mut refusals = Vec::new();
        self.0.retain(|member| {
            index += 1;
            let stays = index <= start || !is_editable(member, name);
            if !stays {
                refusals.extend(other_refusals(member, name));
            }
            stays
        });
        self.0.append(&mut refusals);
    }
}

/// Returns the refusals in a member with this name, such as `private` in `max-age=60; private`. They
/// stay when the directive itself is replaced or removed.
fn other_refusals<'a>(member: &'a [u8], name: &'a str) -> impl Iterator<Item = Vec<u8>> {
    let others = refusals(member).filter(|refusal| !refusal.eq_ignore_ascii_case(name));
    others.map(|refusal| refusal.as_bytes().to_vec())
}

/// Returns whether a member with this name can be replaced or removed. A quoted string without its
/// closing quote may hide `no-store`, so such a member stays.
fn is_editable(member: &[u8], name: &str) -> bool {
    is(member, name) && !has_open_quote(member)
}

fn is(member: &[u8], name: &str) -> bool {
    Directive::parse(member).is(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(lines: &[&str], edit: impl Fn(&mut DirectiveList)) -> Option<String> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        let mut list = DirectiveList::of(&fields);
        edit(&mut list);
        list.write(&mut fields);
        assert!(fields.get_all(CACHE_CONTROL).count() <= 1);
        fields.get(CACHE_CONTROL).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn edited_directives_keep_their_order_and_text() {
        type Edit = fn(&mut DirectiveList);
        let cases: &[(&str, &[&str], Edit, Option<&str>)] = &[
            ("empty field", &[], |_| {}, None),
            ("several lines become one", &["a", "b=1, c"], |_| {}, Some("a, b=1, c")),
            ("added at the end", &["a"], |l| l.set("b", None), Some("a, b")),
            ("added with a value", &[], |l| l.set("b", Some("1")), Some("b=1")),
            ("replaced in place", &["a, b=1, c"], |l| l.set("b", Some("2")), Some("a, b=2, c")),
            ("value to flag", &["b=1"], |l| l.set("b", None), Some("b")),
            (
                "replaced in any case",
                &["Max-Age=10"],
                |l| l.set("max-age", Some("9")),
                Some("max-age=9"),
            ),
            ("repetition removed", &["b=1, a, b=2"], |l| l.set("b", Some("3")), Some("b=3, a")),
            ("removed", &["a, b=1"], |l| l.remove("b"), Some("a")),
            ("last directive removed", &["b"], |l| l.remove("b"), None),
            (
                "present directive found",
                &["A=1"],
                |l| assert!(l.has("a") && !l.has("1")),
                Some("A=1"),
            ),
            ("absent directive removed", &["a"], |l| l.remove("b"), Some("a")),
            (
                "directive in quotes kept",
                &["x=\"a, b=1\""],
                |l| l.remove("b"),
                Some("x=\"a, b=1\""),
            ),
        ];
        for (case, lines, edit, want) in cases {
            assert_eq!(edited(lines, edit).as_deref(), *want, "{case}");
        }
    }

    #[test]
    fn refusals_of_a_replaced_or_removed_directive_stay() {
        type Edit = fn(&mut DirectiveList);
        let cases: &[(&str, Edit, &str)] = &[
            ("max-age=60; private", |l| l.set("max-age", Some("5")), "max-age=5, private"),
            ("max-age=60; Private no-store", |l| l.remove("max-age"), "private, no-store"),
            ("a, max-age=1 no-cache, b", |l| l.remove("max-age"), "a, b, no-cache"),
            (
                "a, max-age=1, max-age=2;no-store",
                |l| l.set("max-age", None),
                "a, max-age, no-store",
            ),
            ("private=\"a\" no-store", |l| l.remove("private"), "no-store"),
            ("max-age=60; public", |l| l.remove("max-age"), ""),
        ];
        for (line, edit, want) in cases {
            assert_eq!(edited(&[line], edit).unwrap_or_default(), *want, "{line}");
        }
    }

    #[test]
    fn directive_with_an_open_quote_hides_no_other_directive() {
        let mut fields = HeaderMap::new();
        for line in ["x, a=\"b", "private, c=\"d"] {
            fields.append(CACHE_CONTROL, HeaderValue::from_static(line));
        }
        let mut list = DirectiveList::of(&fields);
        list.set("max-age", Some("5"));
        list.set("c", None);
        list.remove("a");
        list.write(&mut fields);
        let lines: Vec<_> = fields.get_all(CACHE_CONTROL).collect();
        assert_eq!(lines, ["x, a=\"b", "private, c=\"d", "max-age=5, c"]);
    }

    #[test]
    fn limited_lifetime_is_the_smaller_one() {
        for (line, limit, want) in [
            ("public", 60, "public, max-age=60"),
            ("max-age=30, public", 60, "max-age=30, public"),
            ("max-age=90, public", 60, "max-age=60, public"),
            ("max-age=abc", 60, "max-age=0"),
            ("max-age=\"30\"", 60, "max-age=30"),
            ("max-age=50, public, max-age=40", 60, "max-age=40, public"),
        ] {
            let got = edited(&[line], |list| list.limit("max-age", Duration::from_secs(limit)));
            assert_eq!(got.as_deref(), Some(want), "{line}");
        }
    }
}
