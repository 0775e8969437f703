//! Tests with random cases.

use std::{cell::RefCell, collections::BTreeMap, env};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

/// Runs a test with random cases, and panics with the smallest case that fails. Returns the number
/// of cases.
///
/// The environment variable `RANDOM_CASES_FACTOR` multiplies `cases`, and `PROPTEST_RNG_SEED` sets
/// the seed. The default seed is random.
pub(crate) fn random_cases<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> u32 {
    let config = config(cases);
    let cases = config.cases;
    run(TestRunner::new(config), strategy, test);
    cases
}

/// Like [`random_cases`], with a fixed seed.
pub(crate) fn random_cases_of_fixed_seed<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    run(TestRunner::new_with_rng(config(cases), rng), strategy, test);
}

fn config(cases: u32) -> Config {
    let factor = env::var("RANDOM_CASES_FACTOR").map_or(1, |factor| {
        factor.parse().unwrap_or_else(|_| panic!("RANDOM_CASES_FACTOR is no number: {factor}"))
    });
    Config { cases: cases * factor, failure_persistence: None, ..Config::default() }
}

fn run<S: Strategy>(
    mut runner: TestRunner,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    if let Err(error) = runner.run(strategy, test) {
        panic!("{error}");
    }
}

/// Counts by name, with which a test shows that its random cases are not trivial.
#[derive(Debug, Default)]
pub(crate) struct Tally(RefCell<BTreeMap<&'static str, usize>>);

impl Tally {
    pub(crate) fn add(&self, name: &'static str) {
        *self.0.borrow_mut().entry(name).or_default() += 1;
    }

    /// Adds to the count of a name if `applies`.
    pub(crate) fn add_if(&self, applies: bool, name: &'static str) {
        if applies {
            self.add(name);
        }
    }

    pub(crate) fn get(&self, name: &str) -> usize {
        self.0.borrow().get(name).copied().unwrap_or_default()
    }

    /// Asserts that the count of each of these names is above `least`.
    pub(crate) fn assert_each_above(&self, least: usize, names: &[&str]) {
        println!("{:?}", self.0.borrow());
        for name in names {
            assert!(self.get(name) > least, "the cases are too trivial: {name} in {self:?}");
        }
    }
}
