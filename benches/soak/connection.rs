//! Connections of clients, and responses that arrive in pieces.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// The receive buffer of a slow reader in bytes.
const SLOW_BUFFER: u32 = 4096;

/// The address of slow readers.
const SLOW_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> io::Result<Self> {
        Self::over(TcpSocket::new_v4()?, server).await
    }

    /// Connects from the address of slow readers, for which the cache has a limit. Lets the operating
    /// system receive few bytes in advance.
    pub(crate) async fn open_slow(server: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SLOW_BUFFER)?;
        socket.bind((SLOW_ADDRESS, 0).into())?;
        Self::over(socket, server).await
    }

    async fn over(socket: TcpSocket, server: SocketAddr) -> io::Result<Self> {
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: vec![0; 64 * 1024] })
    }

    /// Sends a request with further header lines.
    pub(crate) async fn send(&mut self, method: &str, path: &str, lines: &str) -> io::Result<()> {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{lines}\r\n");
        self.stream.write_all(request.as_bytes()).await
    }

    /// Reads at most `most` bytes of a response.
    pub(crate) async fn read_some(
        &mut self,
        response: &mut Response,
        most: usize,
    ) -> io::Result<()> {
        let most = most.min(self.read.len());
        let read = self.stream.read(&mut self.read[..most]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        response.take(&self.read[..read])
    }

    /// Reads a complete response.
    pub(crate) async fn receive(&mut self) -> io::Result<Response> {
        let mut response = Response::default();
        while !response.is_complete() {
            self.read_some(&mut response, usize::MAX).await?;
        }
        Ok(response)
    }
}

/// A response, which may be incomplete.
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// The status line and the header lines, in lower case. Empty until they are complete.
    head: String,
    pub(crate) status: u16,
    /// The part of the body that has arrived.
    pub(crate) body: Vec<u8>,
    /// The bytes that are not decoded yet.
    rest: Vec<u8>,
    expected: Expected,
}

/// The next bytes of a response.
#[derive(Debug, Default, PartialEq, Eq)]
enum Expected {
    #[default]
    Head,
    /// This many bytes of the body, and then the end.
    Body(usize),
    /// The line with the size of a chunk.
    Size,
    /// This many bytes of a chunk, and then the end of its line.
    Chunk(usize),
    /// The empty line after the last chunk.
    LastLine,
    Nothing,
}

impl Response {
    pub(crate) fn is_complete(&self) -> bool {
        self.expected == Expected::Nothing
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Decodes the next bytes. Returns an error if they are not valid.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        while self.decode()? {}
        if self.is_complete() && !self.rest.is_empty() {
            return Err(invalid("bytes after the response", &self.rest));
        }
        Ok(())
    }

    /// Decodes one part. Returns `false` if more bytes are necessary.
    fn decode(&mut self) -> io::Result<bool> {
        match self.expected {
            Expected::Nothing => return Ok(false),
            Expected::Head => return self.decode_head(),
            Expected::Body(0) => self.expected = Expected::Nothing,
            Expected::Body(left) => {
                let taken = self.take_body(left);
                self.expected = Expected::Body(left - taken);
                return Ok(taken == left);
            }
            Expected::Chunk(0) => {
                let Some(line) = self.take_line() else { return Ok(false) };
                if !line.is_empty() {
                    return Err(invalid("a chunk without an end of line", &line));
                }
                self.expected = Expected::Size;
            }
            Expected::Chunk(left) => {
                let taken = self.take_body(left);
                self.expected = Expected::Chunk(left - taken);
                return Ok(taken == left);
            }
            Expected::Size => {
                let Some(line) = self.take_line() else { return Ok(false) };
                let size = std::str::from_utf8(&line).ok();
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                self.expected = match size.ok_or_else(|| invalid("no size of a chunk", &line))? {
                    0 => Expected::LastLine,
                    size => Expected::Chunk(size),
                };
            }
            Expected::LastLine => {
                let Some(line) = self.take_line() else { return Ok(false) };
                if !line.is_empty() {
                    return Err(invalid("a trailer", &line));
                }
                self.expected = Expected::Nothing;
            }
        }
        Ok(true)
    }

    fn decode_head(&mut self) -> io::Result<bool> {
        let end = self.rest.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { return Ok(false) };
        let rest = self.rest.split_off(end + 4);
        let head = std::mem::replace(&mut self.rest, rest);
        self.head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = self.head.split(' ').nth(1).and_then(|status| status.parse().ok());
        self.status = status.ok_or_else(|| invalid("no status", &head))?;
        let length = self.field("content-length").and_then(|length| length.parse().ok());
        self.expected = if matches!(self.status, 204 | 304) {
            Expected::Nothing
        } else if self.field("transfer-encoding").is_some() {
            Expected::Size
        } else {
            Expected::Body(length.ok_or_else(|| invalid("no length", &head))?)
        };
        Ok(true)
    }

    /// Moves at most `most` bytes into the body. Returns their number.
    fn take_body(&mut self, most: usize) -> usize {
        let taken = most.min(self.rest.len());
        self.body.extend(self.rest.drain(..taken));
        taken
    }

    /// Returns the next line without its end, if it has arrived.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.rest.windows(2).position(|two| two == b"\r\n")?;
        let mut line: Vec<u8> = self.rest.drain(..end + 2).collect();
        line.truncate(end);
        Some(line)
    }
}

fn invalid(problem: &str, bytes: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]);
    io::Error::new(io::ErrorKind::InvalidData, format!("{problem}: {text:?}"))
}
