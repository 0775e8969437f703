//! Traces with the published parameters of public traces: the mean number of requests for an
//! object, the mean size of an object, and, for Twitter, the exponent of the popularity.
//!
//! The requests themselves are random, so these traces lack all properties that are not published
//! as numbers, such as the order of the requests. The numbers of pages fit 500,000 requests.

use crate::traces::{Model, Popularity, Sizes};

/// The CDN of Wikimedia in 2019: 2,863 million requests (200 TB) for 56 million objects (13 TB), so
/// 51 requests for an object, 232 KB for an object and 70 KB for a request. Popular objects are
/// thus smaller than others. Source: the table in the README of
/// <https://github.com/cacheMon/cache_dataset>, line "Wikimedia CDN".
///
/// Choices of this bench: the exponent 0.9, and the shape of the sizes (log-normal, and growing
/// with the rank to the power of 0.8), such that the clamped sizes have about the published means.
pub(crate) const WIKIMEDIA: Model = Model {
    name: "wikimedia",
    about: "Wikimedia CDN 2019: 51 requests and 232 KB for an object, 70 KB for a request",
    popularity: Popularity::Zipf { pages: 9_800, alpha: 0.9 },
    sizes: Sizes::of_mean_and_median(395_000.0, 240_000.0).growing_with_rank(0.8),
    seed: 7,
};

/// The photos of Tencent's QQ in 2018: 5,650 million requests (141 TB) for 1,038 million objects
/// (24 TB), so 5.4 requests for an object, 23 KB for an object and 25 KB for a request. Source: the
/// same table, line "Tencent Photo".
///
/// Choices of this bench: popularity falls with age, the exponent 0.8, a new photo after each 20
/// requests, the number of old photos, such that a photo has about 5.4 requests, and the median
/// size.
pub(crate) const TENCENT_PHOTO: Model = Model {
    name: "tencent photo",
    about: "Tencent Photo 2018: 5.4 requests and 23 KB for an object; popularity falls with age",
    popularity: Popularity::Age { pages: 90_000, alpha: 0.8, period: 20 },
    sizes: Sizes::of_mean_and_median(23_100.0, 14_000.0),
    seed: 8,
};

/// The cache cluster 4 of Twitter in 2020: exponent 1.1004, 26.5 requests for an object, keys of 67
/// and values of 2,439 bytes. Source: `stat/2020Mar.md` in <https://github.com/twitter/cache-trace>
/// (Yang, Yue and Rashmi, OSDI 2020).
///
/// Choices of this bench: the number of pages, such that an object has about 26.5 requests, and the
/// median size. Writes and lifetimes are left out.
pub(crate) const TWITTER_4: Model = Model {
    name: "twitter 4",
    about: "Twitter cluster 4, 2020: exponent 1.1, 26.5 requests and 2.5 KB for an object",
    popularity: Popularity::Zipf { pages: 20_800, alpha: 1.1004 },
    sizes: Sizes::of_mean_and_median(2_506.0, 1_200.0),
    seed: 9,
};
