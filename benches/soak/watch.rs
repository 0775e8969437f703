//! The measurements of the server under load.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::{
    clients::Counters,
    support::{Server, median},
};

const MIB: u64 = 1024 * 1024;

/// The number of seconds between two lines of output.
const LINE_INTERVAL: usize = 10;

/// The resident memory of the server in bytes, once each second.
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// Measures for some time, and prints the counters.
    pub(crate) async fn take(server: &Server, time: Duration, counters: &Counters) -> Self {
        let started = Instant::now();
        let mut samples = Vec::new();
        let mut seconds = interval(Duration::from_secs(1));
        while started.elapsed() < time {
            seconds.tick().await;
            samples.push(server.resident());
            if samples.len().is_multiple_of(LINE_INTERVAL) {
                println!(
                    "{:4.0} s: {counters}; {} MiB resident, {} descriptors, {} threads",
                    started.elapsed().as_secs_f64(),
                    mib(server.resident()),
                    server.open_descriptors(),
                    server.threads()
                );
            }
        }
        Self(samples)
    }

    /// Compares the last quarter with the second quarter.
    pub(crate) fn check(&self) -> Result<(), String> {
        let quarter = self.0.len() / 4;
        let of = |n: usize| {
            let samples = &self.0[n * quarter..(n + 1) * quarter];
            median(samples.iter().map(|sample| *sample as f64).collect()) as u64
        };
        let (second, last) = (of(1), of(3));
        let most = second + second / 10 + 16 * MIB;
        println!(
            "{} MiB resident in the second quarter, {} MiB in the last (wanted: at most {} MiB)",
            mib(second),
            mib(last),
            mib(most)
        );
        if last <= most { Ok(()) } else { Err("the memory grows".to_owned()) }
    }
}

pub(crate) const fn mib(bytes: u64) -> u64 {
    bytes / MIB
}
