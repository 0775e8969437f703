//! A load of clients with persistent connections. Each client sends a request once the previous
//! response is complete.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
    time::Instant,
};

/// The header fields of a browser.
const BROWSER: &str = "Host: localhost\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: none\r\n";

/// A load generator with a number of connections.
pub(crate) struct Load {
    runtime: Runtime,
    pub(crate) connections: usize,
}

impl Load {
    pub(crate) fn new(connections: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime for clients");
        Self { runtime, connections }
    }

    /// Runs a future in the runtime of the clients.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Sends requests for `path(n)`, each with a new `n`, until `time` is over. Returns the number
    /// of responses.
    pub(crate) fn for_time(
        &self,
        server: SocketAddr,
        time: Duration,
        path: impl Fn(u64) -> String + Clone + Send + 'static,
    ) -> u64 {
        self.requests_for_time(server, time, get(path))
    }

    /// Sends requests until `time` is over. `request(n)` returns the lines of a request, each with a
    /// new `n`. Returns the number of responses.
    pub(crate) fn requests_for_time(
        &self,
        server: SocketAddr,
        time: Duration,
        request: impl Fn(u64) -> String + Clone + Send + 'static,
    ) -> u64 {
        self.run(server, request, move |started, _| started.elapsed() < time)
    }

    /// Sends `count` requests on each connection and returns all response times.
    pub(crate) fn times(&self, server: SocketAddr, count: usize, path: &str) -> Vec<Duration> {
        self.runtime.block_on(async {
            let mut clients = JoinSet::new();
            for _ in 0..self.connections {
                let path = path.to_owned();
                clients.spawn(async move {
                    let mut connection = Connection::open(server).await;
                    let mut times = Vec::with_capacity(count);
                    for _ in 0..count {
                        let started = Instant::now();
                        connection.get(&path).await;
                        times.push(started.elapsed());
                    }
                    times
                });
            }
            clients.join_all().await.concat()
        })
    }

    /// Sends `count` requests in total, for `path(n)`, each with a new `n`. Returns the number of
    /// responses.
    pub(crate) fn for_count(
        &self,
        server: SocketAddr,
        count: u64,
        path: impl Fn(u64) -> String + Clone + Send + 'static,
    ) -> u64 {
        self.requests_for_count(server, count, get(path))
    }

    /// Sends `count` requests in total. `request(n)` returns the lines of a request, each with a new
    /// `n`. Returns the number of responses.
    pub(crate) fn requests_for_count(
        &self,
        server: SocketAddr,
        count: u64,
        request: impl Fn(u64) -> String + Clone + Send + 'static,
    ) -> u64 {
        self.run(server, request, move |_, n| n < count)
    }

    fn run(
        &self,
        server: SocketAddr,
        request: impl Fn(u64) -> String + Clone + Send + 'static,
        continues: impl Fn(Instant, u64) -> bool + Clone + Send + 'static,
    ) -> u64 {
        // No `n` repeats, so that requests that must miss also miss in later laps.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let first = NEXT.load(Ordering::Relaxed);
        self.runtime.block_on(async {
            let started = Instant::now();
            let answered = Arc::new(AtomicU64::new(0));
            let mut clients = JoinSet::new();
            for _ in 0..self.connections {
                let (request, continues) = (request.clone(), continues.clone());
                let answered = Arc::clone(&answered);
                clients.spawn(async move {
                    let mut connection = Connection::open(server).await;
                    loop {
                        let n = NEXT.fetch_add(1, Ordering::Relaxed);
                        if !continues(started, n - first) {
                            return;
                        }
                        connection.send(&request(n)).await;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while let Some(client) = clients.join_next().await {
                client.expect("a client");
            }
            answered.load(Ordering::Relaxed)
        })
    }
}

/// Returns the lines of a browser's requests for the paths.
fn get(path: impl Fn(u64) -> String + Clone) -> impl Fn(u64) -> String + Clone {
    move |n| browser_request(&path(n), None)
}

/// Returns the lines of a browser's request for a path, with a further field if there is one.
pub(crate) fn browser_request(path: &str, field: Option<&str>) -> String {
    let (field, end) = field.map_or(("", ""), |field| (field, "\r\n"));
    format!("GET {path} HTTP/1.1\r\n{BROWSER}{field}{end}\r\n")
}

/// A persistent connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.expect("connect");
        stream.set_nodelay(true).expect("set an option");
        Self { stream, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// Sends the request of a browser, reads the complete response and returns its head.
    pub(crate) async fn get(&mut self, path: &str) -> &[u8] {
        self.send(&browser_request(path, None)).await
    }

    /// Sends the lines of a request, reads the complete response and returns its head.
    pub(crate) async fn send(&mut self, request: &str) -> &[u8] {
        self.stream.write_all(request.as_bytes()).await.expect("send");
        self.buffer.clear();
        let mut head = None;
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("receive");
            assert!(read > 0, "the server closed the connection");
            head = head.or_else(|| Head::parse(&self.buffer));
            if let Some(head) = &head
                && head.is_complete(&self.buffer)
            {
                return self.buffer.get(..head.length).unwrap_or_default();
            }
        }
    }
}

/// The length of a response as its head states it.
struct Head {
    length: usize,
    /// The length of the body, or `None` if the body is sent in chunks.
    body: Option<usize>,
}

impl Head {
    /// Returns `None` if the head is not complete.
    fn parse(response: &[u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = parsed.parse(response).expect("a head") else {
            return None;
        };
        let status = parsed.code.expect("a status code");
        assert!([200, 206, 304].contains(&status), "status code {status}");
        let mut body = Some(0);
        for field in parsed.headers {
            if field.name.eq_ignore_ascii_case("content-length") && status != 304 {
                let text = std::str::from_utf8(field.value).expect("a length");
                body = Some(text.parse().expect("a length"));
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                body = None;
            }
        }
        Some(Self { length, body })
    }

    /// Returns whether the response is complete.
    fn is_complete(&self, response: &[u8]) -> bool {
        match self.body {
            Some(body) => response.len() >= self.length + body,
            None => response.get(self.length..).and_then(chunked_length).is_some(),
        }
    }
}

/// Returns the length of a body in chunks (RFC 9112 section 7.1), or `None` if its end is missing.
fn chunked_length(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = body.get(at..)?;
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..line)?).expect("the size of a chunk");
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        // The size, the chunk, and a line break behind each of them.
        at += line + 2 + size + 2;
        if size == 0 {
            return (body.len() >= at).then_some(at);
        }
    }
}
