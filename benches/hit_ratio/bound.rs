//! An upper bound of the hit ratio of every cache that stores only requested responses.

use crate::replay::{Hits, Load};

/// Returns at least as many hits, and at least as many bytes of hits, as any cache of `capacity`
/// bytes can have.
///
/// Proof. A cache answers a request from memory only if it holds the page from the last request for
/// the page until this request. A page of weight `w` whose last request was `t` requests ago thus
/// takes `w` bytes during `t` requests: this hit costs `w * t`. The cache holds at most `capacity`
/// bytes at any time, and the intervals of one page do not overlap. The hits of the whole trace
/// thus cost at most `capacity` times the number of requests. A set of hits within this limit
/// cannot contain more hits (or bytes) than the set that takes the hits in the order of their cost
/// for each hit (or byte), and a part of the last hit (the fractional knapsack). No cache can
/// choose this set in general, because its costs may exceed the capacity at some time. The bound is
/// PFOO-U of Berger, Beckmann and Harchol-Balter, "Practical Bounds on Optimal Caching with
/// Variable Object Sizes", 2018.
pub(crate) fn upper_bound(load: &Load, capacity: u64) -> Hits {
    let trace = &load.trace;
    let mut last = vec![None; trace.sizes.len()];
    let mut intervals = Vec::with_capacity(trace.requests.len());
    for (now, &page) in trace.requests.iter().enumerate() {
        if let Some(before) = last[page as usize].replace(now) {
            let cost = u64::from(load.weight(page)) * (now - before) as u64;
            intervals.push(Interval { cost: cost as f64, size: trace.sizes[page as usize].into() });
        }
    }
    let budget = capacity as f64 * trace.requests.len() as f64;
    Hits {
        requests: fill(&mut intervals, budget, |_| 1.0),
        bytes: fill(&mut intervals, budget, |interval| interval.size),
    }
}

/// The time between two requests for a page.
struct Interval {
    cost: f64,
    size: f64,
}

/// Returns the greatest sum of values of intervals with costs of at most `budget` together.
fn fill(intervals: &mut [Interval], mut budget: f64, value: impl Fn(&Interval) -> f64) -> f64 {
    intervals.sort_unstable_by(|a, b| (a.cost / value(a)).total_cmp(&(b.cost / value(b))));
    let mut sum = 0.0;
    for interval in intervals.iter() {
        if interval.cost > budget {
            return sum + value(interval) * budget / interval.cost;
        }
        budget -= interval.cost;
        sum += value(interval);
    }
    sum
}
