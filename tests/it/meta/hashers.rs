//! Only hashers with a random seed decide where a key is in a table, so that clients cannot make
//! many keys with equal hashes. Hashers with fixed keys have other uses, each in its own files.

use super::Sources;

/// Hashers with fixed keys, and the files that may use them. `SipHash` and SHA-256 give equal names
/// in all processes. The checksum detects damage of a record. The digests of cache
/// keys are made with a random seed.
const FIXED: [(&str, &[&str]); 4] = [
    (
        "SipHasher13",
        &[
            "entry/coded_copy.rs",
            "entry/length_prefixed.rs",
            "entry/tag.rs",
            "semantics/content_tag.rs",
        ],
    ),
    (
        "Sha256",
        &[
            "entry/length_prefixed.rs",
            "entry/selector.rs",
            "policy/cache_key.rs",
            "policy/fingerprint.rs",
            "store/redis/keys.rs",
        ],
    ),
    ("crc32fast", &["entry/codec/"]),
    ("BuildHasherDefault", &["entry/digest.rs"]),
];

/// Words for hashers of tables without a random seed.
const FORBIDDEN: [&str; 9] = [
    "DefaultHasher",
    "with_hasher",
    "with_capacity_and_hasher",
    "ahash",
    "fnv",
    "foldhash",
    "fxhash",
    "rustc_hash",
    "xxhash",
];

#[test]
fn tables_use_hashers_with_a_random_seed() {
    let problems = problems(&super::read_sources("src"));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn hasher_with_fixed_keys_is_reported() {
    for (text, is_problem) in [
        ("let map: HashMap<K, V, BuildHasherDefault<H>> = HashMap::default();", true),
        ("HashMap::with_hasher(state)", true),
        ("use ahash::AHashMap;", true),
        ("use siphasher::sip128::SipHasher13;", true),
        ("crc32fast::hash(key)", true),
        ("Sha256::digest(key)", true),
        ("let digests = RandomState::new();", false),
        ("let map: HashMap<K, V> = HashMap::new();", false),
        ("// A hasher such as ahash is faster.", false),
    ] {
        let sources = super::sources(&[("coordination/flights.rs", text)]);
        assert_eq!(!problems(&sources).is_empty(), is_problem, "{text}");
    }
    let own = super::sources(&[
        ("entry/tag.rs", "SipHasher13::new_with_keys(0, 1)"),
        ("entry/codec/encoding.rs", "crc32fast::hash(rest)"),
    ]);
    assert_eq!(problems(&own), [""; 0]);
}

fn problems(sources: &Sources) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, text) in sources {
        let words = super::words(text);
        let is_elsewhere = |files: &[&str]| !files.iter().any(|own| file.starts_with(own));
        let fixed = FIXED.iter().filter(|(_, files)| is_elsewhere(files)).map(|(word, _)| word);
        for word in fixed.chain(&FORBIDDEN).filter(|word| words.iter().any(|found| found == *word))
        {
            problems.push(format!("{file} uses {word}: use `RandomState`, the default of HashMap"));
        }
    }
    problems
}
