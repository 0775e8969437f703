//! An origin that answers with bytes that the test chooses, and a parser of HTTP/1.1 messages.

use std::{
    io::{self, BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A parsed message. Its text is Latin-1: each byte is the character with that number.
#[derive(Debug, Clone)]
pub(crate) struct RawMessage {
    pub(crate) start: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The end of a body without `Content-Length` and `Transfer-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unframed {
    Head,
    Connection,
}

impl RawMessage {
    /// Reads a request.
    pub(crate) fn request(from: &mut impl BufRead) -> io::Result<Self> {
        Self::head(from)?.with_body(from, Unframed::Head)
    }

    /// Reads a head only.
    pub(crate) fn head(from: &mut impl BufRead) -> io::Result<Self> {
        let start = line(from)?;
        let mut fields = Vec::new();
        loop {
            let line = line(from)?;
            if line.is_empty() {
                return Ok(Self { start, fields, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// Reads the body. Returns an error if it is shorter than declared.
    fn with_body(mut self, from: &mut impl BufRead, unframed: Unframed) -> io::Result<Self> {
        if self.field("transfer-encoding").is_some() {
            loop {
                let size = line(from)?;
                let size = usize::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData);
                let mut chunk = vec![0; size?];
                from.read_exact(&mut chunk)?;
                line(from)?;
                if chunk.is_empty() {
                    break;
                }
                self.body.extend(chunk);
            }
        } else if let Some(length) = self.field("content-length") {
            self.body = vec![0; length.parse().map_err(|_| io::ErrorKind::InvalidData)?];
            from.read_exact(&mut self.body)?;
        } else if unframed == Unframed::Connection {
            from.read_to_end(&mut self.body)?;
        }
        Ok(self)
    }

    /// The values of all lines of a field, joined by commas.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let lines = self.lines(name);
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        let found = self.fields.iter().filter(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn status(&self) -> &str {
        self.start.split(' ').nth(1).unwrap()
    }

    /// The parameters that this cache wrote into `Cache-Status`.
    pub(crate) fn cache_status(&self) -> String {
        self.field("cache-status").unwrap_or_default().replace("actix-web-cache; ", "")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads a line and removes its CRLF.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(latin(line))
}

/// Decodes Latin-1.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Sends a request on a new connection and reads the response. Returns an error if the response is
/// incomplete or invalid.
pub(crate) fn ask(addr: SocketAddr, request: impl AsRef<[u8]>) -> io::Result<RawMessage> {
    let mut stream = connect(addr);
    stream.write_all(request.as_ref())?;
    let mut reader = BufReader::new(stream);
    let head = RawMessage::head(&mut reader)?;
    let ends_with_head =
        request.as_ref().starts_with(b"HEAD ") || ["204", "304"].contains(&head.status());
    if ends_with_head { Ok(head) } else { head.with_body(&mut reader, Unframed::Connection) }
}

/// A minimal GET request for a path.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    stream
}

/// A running origin. Each connection has one request and a thread of its own.
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    requests: Arc<Mutex<Vec<RawMessage>>>,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    /// Answers each request with the bytes that `answer` returns, and closes the connection.
    pub(crate) fn start(answer: impl Fn(&RawMessage) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let requests: Arc<Mutex<Vec<RawMessage>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let mut origin = Self::accept(move |mut stream| {
            let request = RawMessage::request(&mut BufReader::new(&stream)).expect("a request");
            let answer = answer(&request);
            seen.lock().unwrap().push(request);
            // The client may have closed the connection.
            let _ = stream.write_all(&answer);
        });
        origin.requests = requests;
        origin
    }

    /// Calls `serve` with each connection.
    pub(crate) fn accept(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stopped = Arc::<AtomicBool>::default();
        let stop = Arc::clone(&stopped);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self { addr, requests: Arc::default(), stopped }
    }

    /// The requests so far, oldest first.
    pub(crate) fn requests(&self) -> Vec<RawMessage> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> RawMessage {
        self.requests().pop().expect("a request")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.addr));
    }
}
