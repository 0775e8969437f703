//! The attacks: connections that clients keep open without reading, and requests at full speed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::sleep,
};

use crate::support::Server;

/// The host that the attackers name. Honest clients name another one.
const HOST: &str = "evil.example";

/// The number of connections that send requests at full speed.
const FLOOD_CONNECTIONS: u64 = 16;

/// The number of client addresses of the attackers.
const ADDRESSES: u64 = 100;

pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    kind: Kind,
}

/// The behavior of the attackers. The functions return the request line and the header lines of
/// request `n`, and its body.
enum Kind {
    /// Each connection sends one request, and reads nothing.
    Idle(fn(u64) -> String),
    /// Like `Idle`, but the response has been stored before.
    IdleHit(fn(u64) -> String),
    /// Each connection sends one request and is closed.
    Leave(fn(u64) -> String),
    /// Requests at full speed, each after the response to the last one.
    Flood(fn(u64) -> String),
}

fn get(path: &str) -> String {
    get_with(path, "")
}

fn get_with(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n")
}

/// A request for a page of the honest clients.
fn get_page(n: u64, lines: &str) -> String {
    format!("GET /page/{} HTTP/1.1\r\nHost: t\r\n{lines}\r\n", n % crate::honest::PAGES)
}

/// Returns sixteen field names that no other request has.
fn vary_names(n: u64) -> String {
    let names: Vec<_> = (0..16).map(|field| format!("x-{n}-{field}")).collect();
    names.join(", ")
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n")
}

const fn attack(name: &'static str, description: &'static str, kind: Kind) -> Attack {
    Attack { name, description, kind }
}

pub(crate) const ATTACKS: [Attack; 14] = [
    attack(
        "downloads",
        "idle readers of different chunked bodies of 8 MiB",
        Kind::Idle(|n| get(&format!("/chunked/{n}"))),
    ),
    attack(
        "download",
        "idle readers of one chunked body of 8 MiB",
        Kind::Idle(|_| get("/chunked/1")),
    ),
    attack(
        "bodies",
        "idle readers of different bodies of 1 MiB",
        Kind::Idle(|n| get(&format!("/known/{n}"))),
    ),
    attack("page", "idle readers of one stored page of 2 MiB", Kind::IdleHit(|_| get("/stored"))),
    attack(
        "hits",
        "idle readers of different stored pages of 1 MiB",
        Kind::IdleHit(|n| get(&format!("/large/{n}"))),
    ),
    attack("leave", "clients that leave at once", Kind::Leave(|n| get(&format!("/known/{n}")))),
    attack(
        "conditional",
        "conditional requests to bodies that arrive slowly",
        Kind::Flood(|n| get_with(&format!("/slow/{n}"), "If-None-Match: \"1\"\r\n")),
    ),
    attack(
        "unfinished",
        "requests for the pages of others whose body never ends",
        Kind::Idle(|n| get_page(n, "Transfer-Encoding: chunked\r\n")),
    ),
    attack(
        "bad",
        "requests for the pages of others that get a 400",
        Kind::Flood(|n| get_page(n, "X-Bad: 1\r\n")),
    ),
    attack(
        "forged",
        "requests for the pages of others with forged hosts",
        Kind::Flood(|n| get_page(n, &format!("X-Forwarded-Host: h{n}\r\n"))),
    ),
    attack(
        "names",
        "responses of one URL that vary on ever new fields",
        Kind::Flood(|n| get_with("/vary", &format!("X-Names: {}\r\n", vary_names(n)))),
    ),
    attack(
        "posts",
        "unsafe requests for invented URLs",
        Kind::Flood(|n| post(&format!("/post/{n}"))),
    ),
    attack(
        "groups",
        "invalidations of invented groups",
        Kind::Flood(|n| post(&format!("/group/{n}"))),
    ),
    attack("urls", "misses for invented URLs", Kind::Flood(|n| get(&format!("/page/{n}?{n}")))),
];

/// An attack in progress. Dropping it ends the attack.
pub(crate) struct Running {
    open: Vec<TcpStream>,
    _floods: JoinSet<()>,
    /// The number of connections.
    pub(crate) connections: u64,
}

impl Running {
    /// Waits until a server sends nothing more to idle connections. At first, the operating system
    /// accepts megabytes for each connection, which takes any server seconds.
    pub(crate) async fn settle(&self, server: &Server) {
        const INTERVAL: Duration = Duration::from_millis(200);
        if self.open.is_empty() {
            return;
        }
        for _ in 0..150 {
            let before = server.cpu();
            sleep(INTERVAL).await;
            if server.cpu() - before < INTERVAL / 10 {
                return;
            }
        }
    }
}

impl Attack {
    /// Begins the attack, with `connections` connections if they stay idle.
    pub(crate) async fn begin(&self, server: SocketAddr, connections: u64) -> Running {
        let mut floods = JoinSet::new();
        let open = match self.kind {
            Kind::Idle(request) => idle(server, connections, request).await,
            Kind::IdleHit(request) => {
                let mut open = Vec::new();
                for n in 0..connections {
                    let mut reader = connect(server, n, None).await;
                    send(&mut reader, &request(n)).await;
                    read_response(&mut reader).await;
                    open.extend(idle(server, 1, |_| request(n)).await);
                }
                open
            }
            Kind::Leave(request) => {
                drop(idle(server, connections, request).await);
                Vec::new()
            }
            Kind::Flood(request) => {
                for first in 0..FLOOD_CONNECTIONS {
                    floods.spawn(async move {
                        let mut connection = connect(server, first, None).await;
                        for n in (first..).step_by(FLOOD_CONNECTIONS as usize) {
                            send(&mut connection, &request(n)).await;
                            if !read_response(&mut connection).await {
                                connection = connect(server, first, None).await;
                            }
                        }
                    });
                }
                Vec::new()
            }
        };
        let connections = if floods.is_empty() { connections } else { FLOOD_CONNECTIONS };
        Running { open, _floods: floods, connections }
    }
}

/// Opens connections that take up little of the responses, and sends a request on each.
async fn idle(
    server: SocketAddr,
    connections: u64,
    request: impl Fn(u64) -> String,
) -> Vec<TcpStream> {
    let request = &request;
    let open = (0..connections).map(async |n| {
        let mut stream = connect(server, n, Some(4096)).await;
        send(&mut stream, &request(n)).await;
        stream
    });
    join_all(open).await
}

/// Connects from one of the addresses of the attackers.
async fn connect(server: SocketAddr, n: u64, receive_buffer: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).expect("set an option");
        // With the large segments of the loopback interface, the operating system would keep
        // megabytes for each connection, and soon delay the connections of all clients.
        SockRef::from(&socket).set_tcp_mss(536).expect("set an option");
    }
    let last = u8::try_from(n % ADDRESSES).expect("a byte") + 1;
    socket.bind((Ipv4Addr::new(127, 0, 1, last), 0).into()).expect("bind an address");
    socket.connect(server).await.expect("connect")
}

async fn send(stream: &mut TcpStream, request: &str) {
    // A server may have closed the connection. The next read notices it.
    let _ = stream.write_all(request.as_bytes()).await;
}

/// Reads a response to its end, or until its connection is closed. Returns whether the connection
/// can be used again.
async fn read_response(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    let started = Instant::now();
    loop {
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        if let Some(end) = end_of_response(&read) {
            return read.len() == end;
        }
        assert!(started.elapsed().as_secs() < 60, "a response does not end");
    }
}

/// Returns the length of the complete response, or `None` if it is not complete.
fn end_of_response(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head]).expect("text").to_ascii_lowercase();
    if text.starts_with("http/1.1 304") {
        return Some(head);
    }
    if text.contains("transfer-encoding: chunked") {
        return read.ends_with(b"0\r\n\r\n").then_some(read.len());
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    (read.len() >= head + length).then_some(head + length)
}
