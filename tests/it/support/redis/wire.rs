//! A Redis connection for commands of the test.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Error, ErrorKind, Read as _, Write as _},
    iter,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A RESP2 connection.
pub(crate) struct RedisWire(BufReader<TcpStream>);

/// A reply of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RedisReply {
    Nil,
    Integer(i64),
    /// A bulk or simple string.
    Bytes(Vec<u8>),
    List(Vec<Self>),
    /// An error. The text begins with the error code.
    Error(String),
}

impl RedisWire {
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sets the time limit for replies. The default is ten seconds.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.0.get_ref().set_read_timeout(Some(patience)).unwrap();
    }

    pub(crate) fn send(&mut self, command: &[impl AsRef<[u8]>]) -> io::Result<()> {
        self.0.get_mut().write_all(&encode(command))
    }

    pub(crate) fn receive(&mut self) -> io::Result<RedisReply> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
        let number = || rest.parse::<i64>().map_err(|_| unexpected(line));
        Ok(match kind {
            "+" => RedisReply::Bytes(rest.as_bytes().to_vec()),
            "-" => RedisReply::Error(rest.to_owned()),
            ":" => RedisReply::Integer(number()?),
            "$" | "*" if rest == "-1" => RedisReply::Nil,
            "$" => {
                let length = usize::try_from(number()?).map_err(|_| unexpected(line))?;
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(length);
                RedisReply::Bytes(bytes)
            }
            "*" => {
                let list = (0..number()?).map(|_| self.receive());
                RedisReply::List(list.collect::<io::Result<_>>()?)
            }
            _ => return Err(unexpected(line)),
        })
    }

    pub(crate) fn ask(&mut self, command: &[impl AsRef<[u8]>]) -> io::Result<RedisReply> {
        self.send(command)?;
        self.receive()
    }

    /// Sends a command and returns the text of the reply. Panics if that is an error.
    pub(crate) fn command(&mut self, command: &[impl AsRef<[u8]>]) -> String {
        let reply = self.ask(command).and_then(RedisReply::accepted);
        let shown = encode(command);
        reply.unwrap_or_else(|error| panic!("{}: {error}", shown.escape_ascii())).to_string()
    }

    /// The names and values of the fields of a hash.
    pub(crate) fn hash(&mut self, key: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let reply = self.ask(&["HGETALL", key]).unwrap();
        let RedisReply::List(fields) = reply else { panic!("{key} is not a hash: {reply:?}") };
        let mut parts = fields.into_iter().map(RedisReply::into_bytes);
        iter::from_fn(|| parts.next().zip(parts.next())).collect()
    }
}

impl RedisReply {
    /// Turns an error reply into an `Err`.
    pub(crate) fn accepted(self) -> io::Result<Self> {
        match self {
            Self::Error(error) => Err(Error::other(error)),
            reply => Ok(reply),
        }
    }

    /// The bytes of a string. Panics if the reply is not a string.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let Self::Bytes(bytes) = self else { panic!("not a string: {self:?}") };
        bytes
    }
}

/// Writes a line for each item of a list, and nothing for nil.
impl fmt::Display for RedisReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => Ok(()),
            Self::Integer(number) => number.fmt(f),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).fmt(f),
            Self::List(list) => {
                let mut lines = list.iter();
                lines.next().map_or(Ok(()), |first| first.fmt(f))?;
                lines.try_for_each(|item| write!(f, "\n{item}"))
            }
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// Encodes a command.
fn encode(command: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        let part = part.as_ref();
        bytes.extend(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn unexpected(line: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not RESP2: {line}"))
}
