//! Properties that the codec has for all responses and for all bytes.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{super::fuzzing::forge, *};
use crate::entry::{
    limits::may_have_field,
    response::{ANNOTATED_FIELDS, Audience, EtagSource},
};

fn keys() -> impl Strategy<Value = CacheKey> {
    let part = ("[a-z]{0,4}", option::of(vec(any::<u8>(), 0..6)));
    ("[a-z0-9:,]{1,6}", "/[ -~]{0,12}", option::of("[ -~]{0,8}"), vec(part, 0..3)).prop_map(
        |(namespace, path, query, parts)| {
            let mut key = CacheKey::new(&namespace, "http", "host", &path, query.as_deref());
            for (name, value) in parts {
                key.push_part(&name, value.as_deref());
            }
            key
        },
    )
}

fn names() -> impl Strategy<Value = HeaderName> {
    let standard = select(vec![CONTENT_TYPE, ETAG, LINK, DATE, VARY, CACHE_CONTROL]);
    let custom = "[a-z0-9!#$%&'*+.^_`|~\"-]{1,80}";
    let custom = custom.prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap());
    prop_oneof![standard, custom].prop_filter("never stored", may_have_field)
}

fn values() -> impl Strategy<Value = HeaderValue> {
    let byte = any::<u8>().prop_map(|byte| if byte == 127 || byte < 32 { b'\t' } else { byte });
    vec(byte, 0..40).prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
}

fn times(most: u64) -> impl Strategy<Value = Duration> {
    (0..=most, 0..1_000_000_000_u32).prop_map(|(seconds, rest)| Duration::new(seconds, rest))
}

fn lifetimes() -> impl Strategy<Value = Lifetime> {
    let sources = vec![
        LifetimeSource::Explicit,
        LifetimeSource::Heuristic,
        LifetimeSource::Handler,
        LifetimeSource::Policy,
    ];
    let validations = vec![Validation::OnceStale, Validation::Strict, Validation::Always];
    let staleness =
        (select(validations), option::of(any::<Duration>()), option::of(any::<Duration>()))
            .prop_map(|(validation, while_revalidate, if_error)| Staleness {
                validation,
                while_revalidate,
                if_error,
            });
    let longest = MAX_LIFETIME.as_secs() - 1;
    let time = times(NOW.wall().as_secs() - 1);
    (time, any::<Duration>(), times(longest), select(sources), staleness, times(longest)).prop_map(
        |(time, initial_age, freshness, source, staleness, retention)| Lifetime {
            response_time: Timestamp::new(time, Duration::from_secs(1)),
            initial_age,
            freshness,
            source,
            staleness,
            retention,
        },
    )
}

fn responses() -> impl Strategy<Value = StoredResponse> {
    let status = (200..1000_u16).prop_filter("never stored", |code| ![206, 304].contains(code));
    let fields = vec((names(), values()), 0..8);
    let original = option::of(vec((select(ANNOTATED_FIELDS.to_vec()), values()), 0..4));
    let value = option::of(vec(any::<u8>(), 0..12).prop_map(Bytes::from));
    let selecting = vec((names(), value), 0..4);
    let tags = vec(any::<[u8; 16]>().prop_map(TagId::from_bytes), 0..=MAX_TAGS);
    let cache_data = (selecting, vec(any::<u8>(), 0..9), tags, any::<u64>());
    let times = (option::of(any::<Duration>()), option::of(any::<Duration>()));
    (status, fields, original, vec(any::<u8>(), 0..200), lifetimes(), cache_data, times).prop_map(
        |(
            status,
            fields,
            original,
            body,
            lifetime,
            (selecting, discriminator, tags, stamp),
            times,
        )| {
            let etags = fields.iter().filter(|(name, _)| *name == ETAG).count();
            StoredResponse {
                status: StatusCode::from_u16(status).unwrap(),
                fields: fields.into_iter().collect(),
                body: if status == 204 { Bytes::new() } else { body.into() },
                lifetime,
                stated: times.0,
                selecting: selecting.into(),
                discriminator: discriminator.into(),
                tags: tags.into(),
                stamp: Stamp::new(stamp),
                client_ttl: times.1,
                original_fields: original.map(Into::into),
                audience: match status % 3 {
                    0 => Audience::Everyone,
                    1 => Audience::ClientsWithoutCodings,
                    _ => Audience::ClientsThatDecode,
                },
                permits_sharing: status % 3 == 0,
                etag_source: if etags == 1 && status % 5 == 0 {
                    EtagSource::Cache
                } else {
                    EtagSource::Handler
                },
                coded: (status % 7 == 0).then(|| {
                    Box::new(CodedCopies::of_content(ContentDigest::from_bytes([stamp as u8; 16])))
                }),
                weak_tag: WeakTag::default(),
                validity_check: ValidityCheck::default(),
                uses: Uses::default(),
                received: Duration::ZERO,
            }
        },
    )
}

/// A change that an attacker makes to a record. The attacker can also correct the checksum.
#[derive(Debug, Clone)]
enum Mutation {
    Set(usize, u8),
    SetNumber(usize, u32),
    Insert(usize, u8),
    Remove(usize),
    CopyWithin(usize, usize, usize),
}

impl Mutation {
    fn apply(&self, record: &mut Vec<u8>) {
        let length = record.len();
        match *self {
            Self::Set(at, byte) => record[at % length] = byte,
            Self::SetNumber(at, number) => {
                let at = at % (length - 4);
                put(record, at, &number.to_le_bytes());
            }
            Self::Insert(at, byte) => record.insert(at % length, byte),
            Self::Remove(at) => {
                record.remove(at % length);
            }
            Self::CopyWithin(from, to, many) => {
                let (from, to) = (from % length, to % length);
                let many = many.min(length - from).min(length - to);
                record.copy_within(from..from + many, to);
            }
        }
    }
}

fn mutations() -> impl Strategy<Value = Mutation> {
    // Most changes are in the first 161 bytes, whose numbers decide how the decoder reads the rest.
    let at = prop_oneof![12..161_usize, any::<usize>()];
    let number = prop_oneof![0..70_u32, select(vec![255, 256, 65_535, 1 << 31, u32::MAX])];
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at.clone(), number).prop_map(|(at, number)| Mutation::SetNumber(at, number)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<usize>().prop_map(Mutation::Remove),
        (any::<usize>(), any::<usize>(), 1..20_usize)
            .prop_map(|(from, to, many)| Mutation::CopyWithin(from, to, many)),
    ]
}

proptest! {
    #[test]
    fn any_response_is_read_back((key, response) in (keys(), responses())) {
        let record = encode(&key, &response).unwrap();
        let got = read(&record, &key, NOW).unwrap();
        prop_assert_eq!(written(&got), written(&response));
    }

    #[test]
    fn no_record_is_read_for_another_key((a, b, response) in (keys(), keys(), responses())) {
        prop_assume!(a != b);
        let record = encode(&a, &response).unwrap();
        prop_assert_eq!(read(&record, &b, NOW).unwrap_err(), OtherKey);
    }

    #[test]
    fn truncated_or_damaged_record_is_an_error(
        (key, response) in (keys(), responses()),
        (end, bit) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let mut record = encode(&key, &response).unwrap();
        let end = end.index(record.len());
        prop_assert_eq!(read(&record[..end], &key, NOW).unwrap_err(), Truncated);
        let bit = bit.index(record.len() * 8);
        record[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read(&record, &key, NOW).is_err());
    }

    #[test]
    fn any_bytes_are_decoded_without_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes, &minimal_key(), NOW).is_err());
        let _ = read(&forge(&bytes, &minimal_key()), &minimal_key(), NOW);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn changed_record_is_an_error_or_a_storable_response(
        response in responses(),
        mutations in vec(mutations(), 1..5),
    ) {
        let mut record = encode(&key(), &response).unwrap();
        for mutation in &mutations {
            mutation.apply(&mut record);
        }
        repair(&mut record);
        let _ = read(&record, &key(), NOW);
    }
}
