//! The clients of the application.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    connection::{Connection, Response},
    page::{ANONYMOUS, Kind, Page, Random},
    purges,
};

const READERS: u64 = 16;
const RANGE_READERS: u64 = 4;
const VALIDATING_READERS: u64 = 4;
const PERSONAL_READERS: u64 = 4;
const LEAVING_CLIENTS: u64 = 4;
const SLOW_READERS: u64 = 100;
const PURGING_CLIENTS: u64 = 4;

/// One of this many pages has a URL that no client has requested before.
const PAGES_PER_NEW_URL: u64 = 64;

/// The most bytes that a slow reader reads at a time.
const SLOW_READ: usize = 1024;

/// The result of a client: a wrong response.
pub(crate) type Outcome = Result<Infallible, String>;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    hits: AtomicU64,
    not_modified: AtomicU64,
    parts: AtomicU64,
    /// The requests of slow readers and of clients that disconnect.
    unfinished: AtomicU64,
    pub(crate) purges: AtomicU64,
    /// The purges that returned an error.
    pub(crate) failed_purges: AtomicU64,
    /// The responses to honest clients that ended before they were complete.
    incomplete: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn check(&self) -> Result<(), String> {
        let zero = |counter: &AtomicU64| counter.load(Ordering::Relaxed) == 0;
        if !zero(&self.incomplete) {
            return Err("responses were incomplete".to_owned());
        }
        let necessary = [&self.hits, &self.not_modified, &self.parts, &self.purges];
        if necessary.into_iter().any(zero) {
            return Err("a kind of response is missing".to_owned());
        }
        Ok(())
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} requests, {} hits, {} 304s, {} 206s, {} unfinished, {} incomplete, {} purges, {} \
             failed purges",
            of(&self.requests),
            of(&self.hits),
            of(&self.not_modified),
            of(&self.parts),
            of(&self.unfinished),
            of(&self.incomplete),
            of(&self.purges),
            of(&self.failed_purges)
        )
    }
}

/// The clients that are running.
pub(crate) struct Clients(JoinSet<Outcome>);

impl Clients {
    pub(crate) fn begin(server: SocketAddr, counters: &Arc<Counters>) -> Self {
        let mut tasks = JoinSet::new();
        let mut seeds = 0..;
        let mut client = || Client {
            server,
            connection: None,
            random: Random::new(seeds.next().unwrap_or(0)),
            counters: Arc::clone(counters),
        };
        for _ in 0..READERS {
            tasks.spawn(read(client()));
        }
        for _ in 0..RANGE_READERS {
            tasks.spawn(read_ranges(client()));
        }
        for _ in 0..VALIDATING_READERS {
            tasks.spawn(validate(client()));
        }
        for n in 0..PERSONAL_READERS {
            tasks.spawn(read_personal(client(), n));
        }
        for _ in 0..LEAVING_CLIENTS {
            tasks.spawn(leave_early(client()));
        }
        for _ in 0..SLOW_READERS {
            tasks.spawn(read_slowly(client()));
        }
        for _ in 0..PURGING_CLIENTS {
            tasks.spawn(purges::purge(client()));
        }
        Self(tasks)
    }

    /// Waits for the first wrong response.
    pub(crate) async fn first_problem(&mut self) -> String {
        match self.0.join_next().await {
            Some(Ok(Err(problem))) => problem,
            Some(Err(error)) => error.to_string(),
            Some(Ok(Ok(never))) => match never {},
            None => "there are no clients".to_owned(),
        }
    }

    /// Closes all connections.
    pub(crate) async fn leave(&mut self) {
        self.0.shutdown().await;
    }
}

pub(crate) struct Client {
    server: SocketAddr,
    /// The connection of the last request, if it can be used again.
    connection: Option<Connection>,
    pub(crate) random: Random,
    pub(crate) counters: Arc<Counters>,
}

impl Client {
    /// Chooses a page. Few of the pages have new URLs.
    fn choose(&mut self, kinds: &[Kind]) -> Page {
        static NEW_URLS: AtomicU64 = AtomicU64::new(0);
        let page = Page::choose(&mut self.random, kinds);
        if self.random.one_in(PAGES_PER_NEW_URL) {
            return page.with_query(NEW_URLS.fetch_add(1, Ordering::Relaxed));
        }
        page
    }

    /// Sends a request and receives the response. Repeats the request if the response is not
    /// complete.
    pub(crate) async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        lines: &str,
    ) -> Result<Response, String> {
        loop {
            match self.try_exchange(method, path, lines).await {
                Ok(response) => {
                    count(&self.counters.requests);
                    let status = response.field("cache-status").unwrap_or_default();
                    if status.contains("; hit") || status.contains("collapsed") {
                        count(&self.counters.hits);
                    }
                    return Ok(response);
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(format!("{method} {path} gets {error}"));
                }
                Err(error) => {
                    println!("{method} {path}, {lines:?}: incomplete response, {error}");
                    count(&self.counters.incomplete);
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn try_exchange(
        &mut self,
        method: &str,
        path: &str,
        lines: &str,
    ) -> io::Result<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.server).await?,
        };
        connection.send(method, path, lines).await?;
        let response = connection.receive().await?;
        if response.field("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// Requests a page, and checks the body if the response has the status 200. Returns the
    /// response, and the handler call that made it.
    pub(crate) async fn get(
        &mut self,
        page: &Page,
        lines: &str,
        user: &str,
    ) -> Result<(Response, u64), String> {
        let response = self.exchange("GET", &page.to_string(), lines).await?;
        if response.status != 200 {
            return Ok((response, 0));
        }
        let call = check_complete(page, &response, user)?;
        Ok((response, call))
    }
}

/// Checks a response with a complete body. Returns the handler call that made it.
fn check_complete(page: &Page, response: &Response, user: &str) -> Result<u64, String> {
    let length = response.body.len();
    if length != page.length {
        return Err(format!("the body of {page} has {length} bytes"));
    }
    let call = page.check(&response.body, 0, user)?.ok_or("a body without marks")?;
    let tag = response.field("etag");
    if page.kind != Kind::Personal && tag != Some(&*format!("\"{call}\"")) {
        return Err(format!("the body of call {call} of {page} has the entity tag {tag:?}"));
    }
    Ok(call)
}

fn unexpected(page: &Page, lines: &str, response: &Response) -> String {
    format!("{page} with {lines:?} gets an unexpected response: {response:?}")
}

/// Requests pages one after another.
async fn read(mut client: Client) -> Outcome {
    loop {
        let page = client.choose(&Kind::SHARED);
        // Pages that do not depend on users are for users as well.
        let lines = if client.random.one_in(8) { "Cookie: user=reader\r\n" } else { "" };
        let (response, _) = client.get(&page, lines, ANONYMOUS).await?;
        if response.status != 200 {
            return Err(unexpected(&page, lines, &response));
        }
    }
}

/// Requests ranges of pages.
async fn read_ranges(mut client: Client) -> Outcome {
    loop {
        let page = client.choose(&Kind::SHARED);
        let first = client.random.below(page.length as u64) as usize;
        let last = first + client.random.below((page.length - first) as u64) as usize;
        let lines = format!("Range: bytes={first}-{last}\r\n");
        let (response, _) = client.get(&page, &lines, ANONYMOUS).await?;
        if response.status == 200 {
            continue;
        }
        let range = format!("bytes {first}-{last}/{}", page.length);
        if response.status != 206
            || response.field("content-range") != Some(&range)
            || response.body.len() != last - first + 1
        {
            return Err(unexpected(&page, &lines, &response));
        }
        page.check(&response.body, first, ANONYMOUS)?;
        count(&client.counters.parts);
    }
}

/// Requests pages with the entity tag of an earlier response.
async fn validate(mut client: Client) -> Outcome {
    loop {
        let page = client.choose(&Kind::SHARED);
        let (response, _) = client.get(&page, "", ANONYMOUS).await?;
        let tag = response.field("etag").unwrap_or_default();
        let lines = format!("If-None-Match: {tag}\r\n");
        for _ in 0..4 {
            let (response, _) = client.get(&page, &lines, ANONYMOUS).await?;
            match response.status {
                200 => break,
                304 if response.field("etag") == Some(tag) => count(&client.counters.not_modified),
                _ => return Err(unexpected(&page, &lines, &response)),
            }
        }
    }
}

/// Requests personal pages, with credentials and without credentials.
async fn read_personal(mut client: Client, n: u64) -> Outcome {
    let name = format!("u{n}");
    loop {
        let page = client.choose(&[Kind::Personal]);
        let (user, lines) = match client.random.below(3) {
            0 => (&*name, format!("Cookie: user={name}\r\n")),
            1 => (&*name, format!("Authorization: Bearer {name}\r\n")),
            _ => (ANONYMOUS, String::new()),
        };
        let (response, _) = client.get(&page, &lines, user).await?;
        if response.status != 200 {
            return Err(unexpected(&page, &lines, &response));
        }
        sleep(Duration::from_millis(client.random.below(20))).await;
    }
}

/// Disconnects before the response, or in the middle of a body.
async fn leave_early(mut client: Client) -> Outcome {
    loop {
        let page = client.choose(&Kind::SHARED);
        let Ok(mut connection) = Connection::open(client.server).await else { continue };
        count(&client.counters.unfinished);
        // The connection may break, as the client leaves anyway.
        let _ = connection.send("GET", &page.to_string(), "").await;
        let mut response = Response::default();
        for _ in 0..client.random.below(4) {
            if response.is_complete() || connection.read_some(&mut response, 4096).await.is_err() {
                break;
            }
        }
        if response.status == 200 {
            page.check(&response.body, 0, ANONYMOUS)?;
        }
        drop(connection);
        // Without a pause, all ports of the clients would be in use.
        sleep(Duration::from_millis(10 + client.random.below(20))).await;
    }
}

/// Reads long bodies slowly, and disconnects after some seconds.
async fn read_slowly(mut client: Client) -> Outcome {
    loop {
        let page = client.choose(&Kind::SHARED).longest();
        let stays = Duration::from_millis(2000 + client.random.below(20_000));
        let Ok(mut connection) = Connection::open_slow(client.server).await else {
            continue;
        };
        count(&client.counters.unfinished);
        let _ = connection.send("GET", &page.to_string(), "").await;
        let mut response = Response::default();
        let started = Instant::now();
        while started.elapsed() < stays {
            if let Err(error) = connection.read_some(&mut response, SLOW_READ).await {
                println!("{page}: the response to a slow reader ends, {error}");
                count(&client.counters.incomplete);
                break;
            }
            sleep(Duration::from_millis(50 + client.random.below(100))).await;
        }
        if response.status == 200 {
            page.check(&response.body, 0, ANONYMOUS)?;
        }
    }
}
