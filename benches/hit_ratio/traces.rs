//! Random traces: sequences of requests for pages, and the sizes of the pages.
//!
//! Each trace has its own seed, so each run has the same traces. The comments name the source of
//! each published parameter. All other parameters are choices of this bench.

use std::iter;

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, LogNormal, Zipf};

use crate::published;

/// The least and the greatest size of a body, in bytes. The greatest size is the default of
/// `Policy::max_body_size`.
const SIZES: (f64, f64) = (200.0, 2.0 * 1024.0 * 1024.0);

/// The sizes of the pages in traces without published sizes: log-normal with a mean of 22,499 bytes
/// and a median of 3,372 bytes, as the objects of the IRCache proxies had (Duane Wessels, "Web
/// Caching", O'Reilly 2001, appendix A.1).
const WEB_SIZES: Sizes = Sizes::of_mean_and_median(22_499.0, 3_372.0);

/// The number of pages of a site in traces without a published number of objects.
const PAGES: u32 = 50_000;

/// A sequence of requests.
pub(crate) struct Trace {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The page of each request.
    pub(crate) requests: Vec<u32>,
    /// The size of the body of each page, in bytes. A page has one size.
    pub(crate) sizes: Vec<u32>,
}

/// A log-normal distribution of sizes.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    median: f64,
    mean: f64,
    /// The exponent by which sizes grow with the rank of a page. With 0, popular pages have the
    /// same sizes as others.
    growth: f64,
}

impl Sizes {
    pub(crate) const fn of_mean_and_median(mean: f64, median: f64) -> Self {
        Self { median, mean, growth: 0.0 }
    }

    /// Makes pages of low rank (the popular ones) smaller.
    pub(crate) const fn growing_with_rank(self, growth: f64) -> Self {
        Self { growth, ..self }
    }

    /// Returns the sizes of `pages` pages. The number of a page is its rank.
    fn draw(self, pages: u32, random: &mut Xoshiro256PlusPlus) -> Vec<u32> {
        // The mean of a log-normal distribution is its median times exp(sigma^2 / 2).
        let sigma = (2.0 * (self.mean / self.median).ln()).sqrt();
        let sizes = LogNormal::new(self.median.ln(), sigma).expect("a positive sigma");
        let factor = |page: u32| (f64::from(page + 1) / f64::from(pages)).powf(self.growth);
        let size = |page| sizes.sample(random) * factor(page);
        (0..pages).map(size).map(|size| size.clamp(SIZES.0, SIZES.1) as u32).collect()
    }
}

/// A trace that is not drawn yet.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) popularity: Popularity,
    pub(crate) sizes: Sizes,
    pub(crate) seed: u64,
}

/// The way in which a request chooses its page.
#[derive(Clone, Copy)]
pub(crate) enum Popularity {
    /// The page of rank `r` is requested in proportion to `r` to the power of `-alpha`, for ever.
    Zipf { pages: u32, alpha: f64 },
    /// The same, and two ranks exchange their pages after each `period` requests. The logarithms of
    /// both ranks are uniform, so most exchanges change the most popular pages.
    Drift { alpha: f64, period: usize },
    /// Zipf, and a share of the requests for `hot` new pages, all equally popular. A new page
    /// replaces the oldest of them after each `period` requests.
    News { alpha: f64, share: f64, hot: u32, period: usize },
    /// Zipf, and a share of the requests from a crawler. It requests each page once, in the order
    /// of the pages, and then starts anew.
    Crawler { alpha: f64, share: f64 },
    /// The page of age rank `r` (1 is the newest page) is requested in proportion to `r` to the
    /// power of `-alpha`. A new page is published after each `period` requests.
    Age { pages: u32, alpha: f64, period: usize },
}

/// All traces of this bench.
pub(crate) const MODELS: [Model; 11] = [
    Model {
        name: "zipf 0.9",
        about: "50,000 pages, Zipf with exponent 0.9, for ever",
        popularity: Popularity::Zipf { pages: PAGES, alpha: 0.9 },
        sizes: WEB_SIZES,
        seed: 1,
    },
    Model {
        name: "zipf 1.0",
        about: "the same with exponent 1.0",
        popularity: Popularity::Zipf { pages: PAGES, alpha: 1.0 },
        sizes: WEB_SIZES,
        seed: 2,
    },
    Model {
        name: "drift",
        about: "Zipf 1.0; after each 500 requests, two pages exchange their popularity",
        popularity: Popularity::Drift { alpha: 1.0, period: 500 },
        sizes: WEB_SIZES,
        seed: 3,
    },
    Model {
        name: "news",
        about: "Zipf 0.9, and 40 % of the requests for 200 new pages, each hot for 20,000 requests",
        popularity: Popularity::News { alpha: 0.9, share: 0.4, hot: 200, period: 100 },
        sizes: WEB_SIZES,
        seed: 4,
    },
    Model {
        name: "flash news",
        about: "the same with 2,000 such pages, so that a page has 4 requests while it is hot",
        popularity: Popularity::News { alpha: 0.9, share: 0.4, hot: 2_000, period: 10 },
        sizes: WEB_SIZES,
        seed: 10,
    },
    Model {
        name: "flash, equal",
        about: "the same with pages of one size",
        popularity: Popularity::News { alpha: 0.9, share: 0.4, hot: 2_000, period: 10 },
        sizes: Sizes::of_mean_and_median(22_499.0, 22_499.0),
        seed: 11,
    },
    Model {
        name: "blog",
        about: "popularity falls with age, by Zipf 1.0; a new page after each 100 requests",
        popularity: Popularity::Age { pages: PAGES, alpha: 1.0, period: 100 },
        sizes: WEB_SIZES,
        seed: 5,
    },
    Model {
        name: "crawler",
        about: "Zipf 0.9, and 30 % of the requests from a crawler that visits all pages in order",
        popularity: Popularity::Crawler { alpha: 0.9, share: 0.3 },
        sizes: WEB_SIZES,
        seed: 6,
    },
    published::WIKIMEDIA,
    published::TENCENT_PHOTO,
    published::TWITTER_4,
];

impl Model {
    /// Draws a trace of `count` requests.
    pub(crate) fn draw(&self, count: usize) -> Trace {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let requests = self.popularity.draw(count, &mut random);
        let pages = requests.iter().max().map_or(0, |last| last + 1);
        let sizes = self.sizes.draw(pages, &mut random);
        Trace { name: self.name, about: self.about, requests, sizes }
    }
}

impl Popularity {
    fn draw(self, count: usize, random: &mut Xoshiro256PlusPlus) -> Vec<u32> {
        match self {
            Self::Zipf { pages, alpha } => zipf(pages, alpha, random).take(count).collect(),
            Self::Drift { alpha, period } => drift(alpha, period, count, random),
            Self::News { alpha, share, hot, period } => {
                let is_hot: Vec<bool> = (0..count).map(|_| random.random_bool(share)).collect();
                let choices: Vec<u32> = (0..count).map(|_| random.random_range(0..hot)).collect();
                let mut archive = zipf(PAGES, alpha, random);
                let newest = |n: usize| PAGES + hot + (n / period) as u32;
                let page = |n: usize| {
                    if is_hot[n] { Some(newest(n) - choices[n]) } else { archive.next() }
                };
                (0..count).filter_map(page).collect()
            }
            Self::Crawler { alpha, share } => {
                let is_crawler: Vec<bool> = (0..count).map(|_| random.random_bool(share)).collect();
                let mut crawler = (0..PAGES).cycle();
                let mut visitors = zipf(PAGES, alpha, random);
                let page = |crawls| if crawls { crawler.next() } else { visitors.next() };
                is_crawler.into_iter().filter_map(page).collect()
            }
            Self::Age { pages, alpha, period } => {
                let ages = zipf(pages, alpha, random);
                let newest = |n: usize| pages + (n / period) as u32;
                ages.take(count).enumerate().map(|(n, age)| newest(n) - age).collect()
            }
        }
    }
}

/// Returns random pages. The popularity of page `n` is that of the rank `n + 1`.
fn zipf(
    pages: u32,
    alpha: f64,
    random: &mut Xoshiro256PlusPlus,
) -> impl Iterator<Item = u32> + use<'_> {
    let ranks = Zipf::new(f64::from(pages), alpha).expect("a positive exponent");
    iter::repeat_with(move || ranks.sample(random) as u32 - 1)
}

fn drift(alpha: f64, period: usize, count: usize, random: &mut Xoshiro256PlusPlus) -> Vec<u32> {
    let mut pages: Vec<u32> = (0..PAGES).collect();
    let mut requests = Vec::with_capacity(count);
    while requests.len() < count {
        let ranks: Vec<u32> = zipf(PAGES, alpha, random).take(period).collect();
        requests.extend(ranks.iter().map(|&rank| pages[rank as usize]));
        let mut rank = || f64::from(PAGES).powf(random.random::<f64>()) as usize - 1;
        pages.swap(rank(), rank());
    }
    requests.truncate(count);
    requests
}
