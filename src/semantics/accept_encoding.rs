//! Negotiation of a content coding by `Accept-Encoding` (RFC 9110 section 12.5.3).

use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap};

use super::{
    fields::{Fields, field_lines, list_members},
    weights::{FULL, weighted},
};
use crate::entry::content_coding::ContentCoding;

/// The content codings that a request accepts, with their weights in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcceptedCodings {
    /// The weights of [`ContentCoding::ALL`]. A coding with the weight 0 is refused.
    weights: [u16; ContentCoding::ALL.len()],
    identity: Identity,
}

/// Whether a request accepts a response without a content coding (`identity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// The request gives no weight: `identity` is accepted if there is nothing better.
    Unweighted,
    Weighted(u16),
}

impl AcceptedCodings {
    /// Reads `Accept-Encoding`. A request without the field, or with an empty field, accepts no
    /// coding: clients without the field often cannot decode any.
    ///
    /// A coding whose weight is invalid counts as refused, because no client may get a coding that
    /// it refuses. `identity` with an invalid weight counts as accepted.
    pub(crate) fn of(request: &impl Fields) -> Self {
        let mut lines = request.lines(&ACCEPT_ENCODING);
        let plain = match (lines.next(), lines.next()) {
            (None, _) => return Weights::default().into(),
            (Some(line), None) => Self::of_names(line),
            (Some(_), Some(_)) => None,
        };
        plain.unwrap_or_else(|| {
            let mut weights = Weights::default();
            for member in request.lines(&ACCEPT_ENCODING).flat_map(list_members) {
                let (name, weight) = weighted(member);
                weights.add(name, weight);
            }
            weights.into()
        })
    }

    /// Reads a line that has only names, as those of browsers do. Returns `None` if it has weights or
    /// quotes. Each hit with a copy reads such a line.
    fn of_names(line: &[u8]) -> Option<Self> {
        let mut weights = Weights::default();
        for name in line.split(|byte| *byte == b',') {
            // The names as browsers write them.
            match name.trim_ascii() {
                b"gzip" => weights.add_coding(ContentCoding::Gzip, FULL),
                b"br" => weights.add_coding(ContentCoding::Brotli, FULL),
                b"zstd" => weights.add_coding(ContentCoding::Zstd, FULL),
                b"deflate" => {}
                other if other.iter().any(|byte| matches!(byte, b';' | b'"')) => return None,
                other => weights.add(other, Some(FULL)),
            }
        }
        Some(weights.into())
    }

    /// Returns whether the request accepts a coding.
    pub(crate) fn accepts(self, coding: ContentCoding) -> bool {
        self.weight(coding) > 0
    }

    /// Returns whether the request accepts a response without a coding.
    pub(crate) fn accepts_identity(self) -> bool {
        self.identity != Identity::Weighted(0)
    }

    /// Returns the codings in `offered` that the request accepts and does not like less than a
    /// response without a coding. The coding with the largest weight is the first one. Codings of
    /// equal weight keep the order of `offered`.
    pub(crate) fn preferred(self, offered: &[ContentCoding]) -> PreferredCodings {
        let least = match self.identity {
            Identity::Unweighted => 1,
            Identity::Weighted(weight) => weight.max(1),
        };
        let mut preferred = PreferredCodings::default();
        if self.weights == [FULL; ContentCoding::ALL.len()] {
            // Without differences, the order is that of `offered`.
            for (place, coding) in preferred.0.iter_mut().zip(offered) {
                *place = Some(*coding);
            }
            return preferred;
        }
        for &coding in offered.iter().filter(|coding| self.weight(**coding) >= least) {
            preferred.insert(coding, |other| self.weight(other) < self.weight(coding));
        }
        preferred
    }

    fn weight(self, coding: ContentCoding) -> u16 {
        self.weights.get(coding.index()).copied().unwrap_or(0)
    }
}

/// The registered content codings of bodies that clients decode themselves (RFC 9110 section 8.4.1, RFC
/// 7932, RFC 8878, RFC 9842).
const REGISTERED: [&str; 9] =
    ["br", "compress", "dcb", "dcz", "deflate", "gzip", "x-compress", "x-gzip", "zstd"];

/// Returns whether a response has a registered content coding. Clients that know a coding of an
/// application do not always name it in `Accept-Encoding`.
pub(crate) fn has_registered_coding(response: &HeaderMap) -> bool {
    let mut codings = field_lines(response, &CONTENT_ENCODING).flat_map(list_members);
    codings.any(|coding| REGISTERED.iter().any(|name| coding.eq_ignore_ascii_case(name.as_bytes())))
}

/// Returns whether a request accepts all codings in these lines of `Content-Encoding`. A request
/// without `Accept-Encoding` accepts none, because clients without the field often cannot decode any.
pub(crate) fn accepts_all_codings<'a>(
    request: &HeaderMap,
    content_encoding: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let mut codings = content_encoding.flat_map(list_members);
    codings.all(|coding| coding.eq_ignore_ascii_case(b"identity") || names(request, coding))
}

/// Returns whether `Accept-Encoding` accepts a coding by its name, or else by `*`.
fn names(request: &HeaderMap, coding: &[u8]) -> bool {
    let known = ContentCoding::of_name(coding);
    let mut any = None;
    for member in field_lines(request, &ACCEPT_ENCODING).flat_map(list_members) {
        let (name, weight) = weighted(member);
        let is_same = name.eq_ignore_ascii_case(coding)
            || (known.is_some() && known == ContentCoding::of_name(name));
        if is_same {
            return weight.unwrap_or(0) > 0;
        }
        if name == b"*" {
            any.get_or_insert_with(|| weight.unwrap_or(0));
        }
    }
    any.is_some_and(|weight| weight > 0)
}

/// The weights that `Accept-Encoding` gives to the names in it. The first weight of a name counts.
#[derive(Default)]
struct Weights {
    codings: [Option<u16>; ContentCoding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    /// Adds the weight of a name. `weight` is `None` if it is invalid.
    fn add(&mut self, name: &[u8], weight: Option<u16>) {
        if name == b"*" {
            self.any.get_or_insert_with(|| weight.unwrap_or_default());
        } else if let Some(coding) = ContentCoding::of_name(name) {
            self.add_coding(coding, weight.unwrap_or_default());
        } else if name.eq_ignore_ascii_case(b"identity") {
            self.identity.get_or_insert_with(|| weight.unwrap_or(FULL));
        }
    }

    fn add_coding(&mut self, coding: ContentCoding, weight: u16) {
        if let Some(place) = self.codings.get_mut(coding.index()) {
            place.get_or_insert(weight);
        }
    }
}

impl From<Weights> for AcceptedCodings {
    fn from(Weights { codings, identity, any }: Weights) -> Self {
        // Section 12.5.3: `*` stands for each coding that the field does not name.
        let weights = codings.map(|weight| weight.or(any).unwrap_or(0));
        let identity = identity.or(any).map_or(Identity::Unweighted, Identity::Weighted);
        Self { weights, identity }
    }
}

/// Content codings in the order in which a client prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PreferredCodings([Option<ContentCoding>; ContentCoding::ALL.len()]);

impl PreferredCodings {
    /// Inserts a coding before the first one that `is_worse`, or at the end. More codings than there
    /// are places, which only a list with repeated codings has, are dropped.
    fn insert(&mut self, coding: ContentCoding, is_worse: impl Fn(ContentCoding) -> bool) {
        let mut moving = Some(coding);
        for place in &mut self.0 {
            let Some(new) = moving else { return };
            match *place {
                Some(other) if new == coding && !is_worse(other) => {}
                _ => moving = place.replace(new),
            }
        }
    }

    /// Returns the codings, the best first.
    pub(crate) fn iter(self) -> impl Iterator<Item = ContentCoding> {
        self.0.into_iter().flatten()
    }

    /// Returns the best coding.
    pub(crate) fn first(self) -> Option<ContentCoding> {
        self.iter().next()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn accepted(lines: &[&str]) -> AcceptedCodings {
        let mut request = HeaderMap::new();
        for line in lines {
            request.append(ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
        }
        AcceptedCodings::of(&request)
    }

    fn preferred(codings: AcceptedCodings, offered: &[ContentCoding]) -> Vec<&'static str> {
        codings.preferred(offered).iter().map(ContentCoding::name).collect()
    }

    #[test]
    fn codings_are_ordered_by_weight_and_then_by_the_order_of_the_server() {
        for (lines, want, identity) in [
            (&[][..], &[][..], true),
            (&[""], &[], true),
            (&["gzip, deflate, br, zstd"], &["br", "zstd", "gzip"], true),
            (&["gzip", "br"], &["br", "gzip"], true),
            (&["gzip;q=0.5, br;q=0.4"], &["gzip", "br"], true),
            (&["GZIP; Q=0.5 , Br ;q=0.500"], &["br", "gzip"], true),
            (&["x-gzip"], &["gzip"], true),
            (&["*"], &["br", "zstd", "gzip"], true),
            (&["gzip;q=1, *;q=0.1"], &["gzip", "br", "zstd"], true),
            (&["gzip;q=0.1, *;q=0.5"], &["br", "zstd"], true),
            (&["br;q=0, *"], &["zstd", "gzip"], true),
            (&["identity"], &[], true),
            (&["identity, gzip"], &["gzip"], true),
            (&["identity, gzip;q=0.9"], &[], true),
            (&["identity;q=0.5, gzip;q=0.9, br;q=0.1"], &["gzip"], true),
            (&["identity;q=0"], &[], false),
            (&["identity;q=0, gzip;q=0.001"], &["gzip"], false),
            (&["*;q=0"], &[], false),
            (&["*;q=0, zstd"], &["zstd"], false),
            (&["*;q=0, identity"], &[], true),
            (&["gzip;q=0"], &[], true),
            (&["gzip;q=0, gzip"], &[], true),
            (&["gzip;q=0.0000"], &[], true),
            (&["gzip;q=2, br;q=-1, zstd;q=x"], &[], true),
            (&["gzip;q="], &[], true),
            (&["identity;q=x"], &[], true),
            (&["gzip;level=1;q=0.5"], &["gzip"], true),
            (&["brotli, gzipped, deflate"], &[], true),
        ] {
            let codings = accepted(lines);
            assert_eq!(preferred(codings, &ContentCoding::ALL), want, "{lines:?}");
            assert_eq!(codings.accepts_identity(), identity, "{lines:?}");
            for coding in ContentCoding::ALL {
                if want.contains(&coding.name()) {
                    assert!(codings.accepts(coding), "{lines:?}");
                }
            }
        }
    }

    #[test]
    fn server_offers_some_codings_in_its_order() {
        use ContentCoding::{Brotli, Gzip, Zstd};
        let all = accepted(&["gzip, br, zstd"]);
        for (offered, want) in [
            (&[][..], &[][..]),
            (&[Gzip], &["gzip"]),
            (&[Gzip, Brotli], &["gzip", "br"]),
            (&[Zstd, Gzip, Brotli], &["zstd", "gzip", "br"]),
            (&[Gzip, Gzip, Gzip, Brotli], &["gzip", "gzip", "gzip"]),
        ] {
            assert_eq!(preferred(all, offered), want);
        }
        assert_eq!(all.preferred(&[Zstd, Gzip]).first(), Some(Zstd));
        assert_eq!(all.preferred(&[]).first(), None);
    }

    #[test]
    fn registered_codings_are_known() {
        for (value, want) in
            [("gzip", true), ("own, BR", true), ("own", false), ("identity", false), ("", false)]
        {
            let response = [(CONTENT_ENCODING, HeaderValue::from_static(value))];
            assert_eq!(has_registered_coding(&response.into_iter().collect()), want, "{value}");
        }
    }

    #[test]
    fn all_codings_of_a_response_must_be_accepted() {
        for (accept, content, want) in [
            ("gzip", "gzip", true),
            ("gzip", "x-gzip", true),
            ("x-gzip", "GZIP", true),
            ("br", "gzip", false),
            ("", "gzip", false),
            ("*", "gzip", true),
            ("*;q=0", "gzip", false),
            ("gzip;q=0, *", "gzip", false),
            ("*;q=0, gzip;q=0.1", "gzip", true),
            ("gzip;q=x", "gzip", false),
            ("gzip, br", "br, gzip", true),
            ("gzip", "br, gzip", false),
            ("own", "Own", true),
            ("", "identity", true),
            ("gzip", "identity, gzip", true),
        ] {
            let request: HeaderMap =
                [(ACCEPT_ENCODING, HeaderValue::from_static(accept))].into_iter().collect();
            let got = accepts_all_codings(&request, [content.as_bytes()].into_iter());
            assert_eq!(got, want, "{accept:?} {content:?}");
        }
        let codings = || [&b"gzip"[..], b"br"].into_iter();
        assert!(!accepts_all_codings(&HeaderMap::new(), codings()));
    }

    /// A slow reading of section 12.5.3: the weight of a coding by its name, then by `*`.
    fn reference_weight(members: &[(&str, &str)], name: &str) -> Option<f32> {
        let find = |name: &str| members.iter().find(|(found, _)| *found == name);
        let (_, weight) = find(name).or_else(|| find("*"))?;
        Some(if weight.is_empty() { 1.0 } else { weight.parse().unwrap() })
    }

    proptest! {
        #[test]
        fn choice_equals_the_reference(
            members in prop::collection::vec(
                (
                    prop::sample::select(vec!["br", "gzip", "zstd", "identity", "*", "deflate"]),
                    prop::sample::select(vec!["", "0", "0.001", "0.3", "0.5", "0.500", "1", "1.0"]),
                ),
                0..7,
            ),
            lines in 1..3_usize,
        ) {
            let write = |(name, weight): &(&str, &str)| match weight.is_empty() {
                true => (*name).to_owned(),
                false => format!("{name};q={weight}"),
            };
            let texts: Vec<_> = members.iter().map(write).collect();
            let (one, other) = texts.split_at(texts.len() / lines);
            let codings = accepted(&[&one.join(","), &other.join(" , ")]);
            let identity = reference_weight(&members, "identity");
            prop_assert_eq!(codings.accepts_identity(), identity != Some(0.0));
            let mut want: Vec<_> = ContentCoding::ALL
                .into_iter()
                .filter_map(|coding| Some((coding, reference_weight(&members, coding.name())?)))
                .filter(|(_, weight)| *weight > 0.0 && *weight >= identity.unwrap_or(0.0))
                .collect();
            want.sort_by(|(_, one), (_, other)| other.total_cmp(one));
            let want: Vec<_> = want.into_iter().map(|(coding, _)| coding.name()).collect();
            prop_assert_eq!(preferred(codings, &ContentCoding::ALL), want);
            for coding in ContentCoding::ALL {
                let weight = reference_weight(&members, coding.name());
                prop_assert_eq!(codings.accepts(coding), weight.is_some_and(|weight| weight > 0.0));
            }
        }
    }
}
