//! A Redis server that restarts again and again.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::support::Redis;

/// The time between the start of Redis and its end.
const RUNS: Duration = Duration::from_secs(18);

/// The time until Redis starts again.
const IS_DOWN: Duration = Duration::from_secs(2);

/// A Redis server, and the thread that restarts it. Dropping the value ends both.
pub(crate) struct RestartedRedis {
    pub(crate) url: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RestartedRedis {
    pub(crate) fn start() -> io::Result<Self> {
        let redis = Redis::start()?;
        let url = redis.url.clone();
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || restart(redis, &stopped));
        Ok(Self { url, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for RestartedRedis {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn restart(mut redis: Redis, stopped: &Receiver<()>) {
    let is_over = |time| stopped.recv_timeout(time) != Err(RecvTimeoutError::Timeout);
    while !is_over(RUNS) {
        redis.kill();
        if is_over(IS_DOWN) {
            return;
        }
        redis.restart_on_same_port().expect("Redis starts again");
    }
}
