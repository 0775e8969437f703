//! The weights of the members of an `Accept-*` field (RFC 9110 section 12.4.2).

use super::fields::split;

/// The weight of a member that states none, in thousandths.
pub(super) const FULL: u16 = 1000;

/// Splits a member of an `Accept-*` field into its text and its weight in thousandths. The weight is
/// `None` if it is invalid.
pub(super) fn weighted(member: &[u8]) -> (&[u8], Option<u16>) {
    if !member.contains(&b';') {
        return (member, Some(FULL));
    }
    let mut parts = split(member, b';');
    let text = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (q, weight) = part.split_at_checked(2)?;
        q.eq_ignore_ascii_case(b"q=").then_some(weight)
    });
    (text, weight.map_or(Some(FULL), thousandths))
}

/// Parses a weight between 0 and 1, and returns it in thousandths.
fn thousandths(weight: &[u8]) -> Option<u16> {
    let number: f32 = std::str::from_utf8(weight).ok()?.parse().ok()?;
    (0.0..=1.0).contains(&number).then_some((number * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_in_thousandths() {
        for (member, text, weight) in [
            ("gzip", "gzip", Some(1000)),
            ("gzip;q=1", "gzip", Some(1000)),
            ("gzip ; Q=0.25", "gzip", Some(250)),
            ("gzip;level=1;q=0", "gzip", Some(0)),
            ("gzip;level=1", "gzip", Some(1000)),
            ("gzip;q=1.5", "gzip", None),
            ("gzip;q=-1", "gzip", None),
            ("gzip;q=nan", "gzip", None),
            ("gzip;q=x", "gzip", None),
            ("gzip;q=", "gzip", None),
        ] {
            assert_eq!(weighted(member.as_bytes()), (text.as_bytes(), weight), "{member}");
        }
    }
}
