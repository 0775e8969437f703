//! The fuzz targets, as functions of bytes. A target panics if it finds an error.
//!
//! Only fuzzers and unit tests compile this module. `fuzz/` has a program for each target, and
//! `fuzz/corpus/` has inputs for each target. A unit test runs every input in `cargo test`.

#[cfg(feature = "test-util")]
pub mod exchange;
pub mod fields;
mod input;
pub mod key;
pub mod linear;
mod parsers;
pub mod policy;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis_replies;

/// A fuzz target. Its argument is the input of one run.
pub type Target = fn(&[u8]);

/// The targets that the enabled features allow, each with the name of its program and its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("fields", fields::run),
    ("key", key::run),
    ("policy", policy::run),
    ("record", record::run),
    #[cfg(feature = "redis")]
    ("redis_replies", redis_replies::run),
    #[cfg(feature = "test-util")]
    ("exchange", exchange::run),
];

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
        path::{Path, PathBuf},
    };

    use super::*;

    /// The folder `fuzz` of the repository. `None` in the published package, which lacks it.
    fn folder(name: &str) -> Option<PathBuf> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        fuzz.exists().then(|| fuzz.join(name))
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn corpus_of_each_target_runs_without_a_finding() {
        let Some(corpus) = folder("corpus") else { return };
        for (target, run) in TARGETS {
            let inputs = names(&corpus.join(target));
            assert!(!inputs.is_empty(), "fuzz/corpus/{target} is empty");
            for input in inputs {
                let bytes = fs::read(corpus.join(target).join(&input)).unwrap();
                if let Err(finding) = catch_unwind(AssertUnwindSafe(|| run(&bytes))) {
                    eprintln!("fuzz/corpus/{target}/{input} fails");
                    resume_unwind(finding);
                }
            }
        }
    }

    #[test]
    #[cfg(all(feature = "redis", feature = "test-util"))]
    fn each_target_has_a_program_and_a_corpus() {
        let targets = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
        let Some(corpus) = folder("corpus") else { return };
        assert_eq!(names(&corpus), targets, "the folders in fuzz/corpus");
        let programs = names(&folder("fuzz_targets").unwrap());
        let programs: BTreeSet<_> =
            programs.iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
        assert_eq!(programs, targets, "the programs in fuzz/fuzz_targets");
    }
}
