//! A RESP server whose replies the test chooses: errors that are rare in real servers, and invalid
//! replies.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{BackgroundRuntime, RedisReply, RedisServer};

/// The reply to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FakeReply {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Last(Vec<u8>),
    Nothing,
}

impl FakeReply {
    /// An error. The text begins with the error code.
    pub(crate) fn error(text: &str) -> Self {
        Self::Bytes(format!("-{text}\r\n").into_bytes())
    }

    pub(crate) fn ok() -> Self {
        Self::Bytes(b"+OK\r\n".to_vec())
    }

    pub(crate) fn integer(number: i64) -> Self {
        Self::Bytes(format!(":{number}\r\n").into_bytes())
    }

    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        Self::Bytes([format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
    }

    pub(crate) fn nil() -> Self {
        Self::Bytes(b"$-1\r\n".to_vec())
    }
}

/// A running server. Dropping it ends it.
pub(crate) struct FakeRedis {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _background: BackgroundRuntime,
}

type Answer = dyn Fn(&[Vec<u8>]) -> FakeReply + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    heard: Mutex<Vec<Vec<String>>>,
    accepted: AtomicUsize,
}

impl FakeRedis {
    /// Answers the handshake and `PING` like Redis, and all other commands by `answer`.
    pub(crate) fn new(answer: impl Fn(&[Vec<u8>]) -> FakeReply + Send + Sync + 'static) -> Self {
        Self::from_the_start(move |command| {
            handshake_reply(command).unwrap_or_else(|| answer(command))
        })
    }

    /// Answers commands by `answer`, and passes the others to `redis` by one connection. A
    /// subscription is an error, because this connection could send no other commands then.
    pub(crate) fn in_front_of(
        redis: &RedisServer,
        answer: impl Fn(&[Vec<u8>]) -> Option<FakeReply> + Send + Sync + 'static,
    ) -> Self {
        let wire = Mutex::new(redis.wire());
        Self::new(move |command| {
            if command_name(command) == "SUBSCRIBE" {
                return FakeReply::error("ERR no subscriptions");
            }
            answer(command).unwrap_or_else(|| {
                FakeReply::Bytes(encoded(&wire.lock().unwrap().ask(command).unwrap()))
            })
        })
    }

    /// Answers all commands by `answer`, which may call [`handshake_reply`] for the handshake.
    pub(crate) fn from_the_start(
        answer: impl Fn(&[Vec<u8>]) -> FakeReply + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            heard: Mutex::default(),
            accepted: AtomicUsize::new(0),
        });
        let background = BackgroundRuntime::run(Arc::clone(&shared).accept(listener));
        Self { addr, shared, _background: background }
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }

    /// All commands so far, with those of the handshake, in order.
    pub(crate) fn heard(&self) -> Vec<Vec<String>> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

fn encoded(reply: &RedisReply) -> Vec<u8> {
    match reply {
        RedisReply::Nil => b"$-1\r\n".to_vec(),
        RedisReply::Integer(number) => format!(":{number}\r\n").into_bytes(),
        RedisReply::Bytes(bytes) => {
            [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
        }
        RedisReply::List(items) => {
            let length = format!("*{}\r\n", items.len()).into_bytes();
            length.into_iter().chain(items.iter().flat_map(encoded)).collect()
        }
        RedisReply::Error(error) => format!("-{error}\r\n").into_bytes(),
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((client, _)) = listener.accept().await {
            self.accepted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(Arc::clone(&self).serve(client));
        }
    }

    async fn serve(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut client = BufReader::new(client);
        loop {
            let command = receive(&mut client).await?;
            let text = command.iter().map(|part| String::from_utf8_lossy(part).into_owned());
            self.heard.lock().unwrap().push(text.collect());
            match (self.answer)(&command) {
                FakeReply::Bytes(bytes) => client.write_all(&bytes).await?,
                FakeReply::Nothing => {}
                FakeReply::Last(bytes) => {
                    client.write_all(&bytes).await?;
                    return client.shutdown().await;
                }
            }
        }
    }
}

/// The name of a command in upper case.
pub(crate) fn command_name(command: &[Vec<u8>]) -> String {
    command.first().map(|name| String::from_utf8_lossy(name).to_uppercase()).unwrap_or_default()
}

/// The reply of Redis to the commands of the handshake and to `PING`.
pub(crate) fn handshake_reply(command: &[Vec<u8>]) -> Option<FakeReply> {
    match (command_name(command).as_str(), command.get(1)) {
        ("HELLO", version) => Some(hello(version)),
        ("AUTH" | "CLIENT" | "SELECT" | "READONLY" | "UNWATCH", _) => Some(FakeReply::ok()),
        ("PING", Some(text)) => Some(FakeReply::bulk(text)),
        ("PING", None) => Some(FakeReply::Bytes(b"+PONG\r\n".to_vec())),
        _ => None,
    }
}

fn hello(version: Option<&Vec<u8>>) -> FakeReply {
    // RESP3 has a map type. RESP2 sends its names and values as a list.
    let (start, version) =
        if version.is_some_and(|version| version == b"3") { ("%4", 3) } else { ("*8", 2) };
    let head = format!("{start}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:{version}\r\n");
    let rest = "$7\r\nversion\r\n$5\r\n7.0.0\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
    FakeReply::Bytes((head + rest).into_bytes())
}

async fn receive(client: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<Vec<u8>>> {
    let mut command = Vec::new();
    for _ in 0..number(client, '*').await? {
        let mut part = vec![0; number(client, '$').await? + 2];
        client.read_exact(&mut part).await?;
        part.truncate(part.len() - 2);
        command.push(part);
    }
    Ok(command)
}

async fn number(client: &mut (impl AsyncBufRead + Unpin), kind: char) -> io::Result<usize> {
    let mut line = String::new();
    client.read_line(&mut line).await?;
    let number = line.trim_end().strip_prefix(kind).and_then(|number| number.parse().ok());
    number.ok_or_else(|| ErrorKind::InvalidData.into())
}
