//! A TCP proxy with faults that the test sets. It has a thread of its own, so that it also works while the
//! threads of the test are blocked.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::BackgroundRuntime;

/// A fault of the proxy. It applies to open and to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fault.
    None,
    /// Accepts connections and forwards nothing in either direction. Held bytes are forwarded when the
    /// fault ends, as TCP retransmits lost segments.
    BlackHole,
    /// Forwards requests but no replies: the server executes commands, and clients do not learn of it.
    Mute,
    /// Closes new connections at once. Connections that are open stay open; see [`FaultyProxy::drop_connections`].
    Refuse,
    /// Ends each connection after this number of further bytes of replies. With 0 it ends as soon as the server
    /// replies.
    Cut(usize, End),
    /// Forwards replies byte by byte, with this time between them.
    Drip(Duration),
    /// Delays each reply by this time. The delays of several replies do not add up.
    Delay(Duration),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By an orderly shutdown, as if the server had closed the connection.
    Close,
    /// By a reset. A client that does not keep up with reading may lose some of the last bytes.
    Reset,
}

/// A running proxy. Dropping it ends it.
pub(crate) struct FaultyProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _background: BackgroundRuntime,
}

struct Shared {
    server: SocketAddr,
    fault: watch::Sender<Fault>,
    drops: watch::Sender<()>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    requested: AtomicU64,
    replied: AtomicU64,
}

impl FaultyProxy {
    /// Starts a proxy in front of a server, without a fault.
    pub(crate) fn of(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            fault: watch::Sender::new(Fault::None),
            drops: watch::Sender::new(()),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            requested: AtomicU64::new(0),
            replied: AtomicU64::new(0),
        });
        let background = BackgroundRuntime::run(Arc::clone(&shared).accept(listener));
        Self { addr, shared, _background: background }
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The Redis URL of the proxy.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }

    /// Replaces the fault, for all bytes that arrive from now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// Makes the proxy close all open connections. It does not wait until they are closed.
    pub(crate) fn drop_connections(&self) {
        self.shared.drops.send_replace(());
    }

    /// The number of accepted connections, including those closed by [`Fault::Refuse`].
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// The number of connections that clients have not closed yet, including those that were cut.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The number of bytes forwarded to the server.
    pub(crate) fn requested(&self) -> u64 {
        self.shared.requested.load(Ordering::SeqCst)
    }

    /// The number of bytes forwarded to clients.
    pub(crate) fn replied(&self) -> u64 {
        self.shared.replied.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((client, _)) = listener.accept().await {
            self.accepted.fetch_add(1, Ordering::SeqCst);
            if *self.fault.borrow() != Fault::Refuse {
                self.open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(Arc::clone(&self).connection(client, self.drops.subscribe()));
            }
        }
    }

    async fn connection(self: Arc<Self>, client: TcpStream, mut drops: watch::Receiver<()>) {
        tokio::select! {
            biased;
            _ = drops.changed() => {}
            _ = self.pass(client) => {}
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    async fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect(self.server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let end = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            tokio::select! {
                end = self.requests(from_client, to_server) => end?,
                end = self.replies(from_server, to_client) => end?,
            }
        };
        drop(server);
        match end {
            End::Reset => client.set_zero_linger(),
            End::Close => {
                client.shutdown().await?;
                // Closing a socket with unread bytes would send a reset.
                tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(drop)
            }
        }
    }

    async fn requests(
        &self,
        mut client: impl AsyncRead + Unpin,
        mut server: impl AsyncWrite + Unpin,
    ) -> io::Result<End> {
        let mut fault = self.fault.subscribe();
        let mut held = Vec::new();
        loop {
            if *fault.borrow_and_update() != Fault::BlackHole && !held.is_empty() {
                // Counted first, so that the count includes all bytes that the server has received.
                self.requested.fetch_add(held.len() as u64, Ordering::SeqCst);
                server.write_all(&held).await?;
                held.clear();
            }
            tokio::select! {
                biased;
                _ = fault.changed() => {}
                read = client.read_buf(&mut held) => if read? == 0 {
                    return Ok(End::Close);
                }
            }
        }
    }

    async fn replies(
        &self,
        mut server: impl AsyncRead + Unpin,
        client: impl AsyncWrite + Unpin,
    ) -> io::Result<End> {
        let mut fault = self.fault.subscribe();
        let mut replies = Replies {
            queue: VecDeque::new(),
            fault: Fault::None,
            left: 0,
            last: Instant::now(),
            count: &self.replied,
            client,
        };
        replies.begin(*fault.borrow_and_update());
        let mut ended = false;
        while !ended || !replies.queue.is_empty() {
            let due = replies.due();
            let mut bytes = Vec::with_capacity(64 * 1024);
            tokio::select! {
                biased;
                _ = fault.changed() => replies.begin(*fault.borrow()),
                () = sleep_until(due.unwrap_or(replies.last)), if due.is_some() => {
                    if let Some(end) = replies.pass().await? {
                        return Ok(end);
                    }
                }
                read = server.read_buf(&mut bytes), if !ended => {
                    ended = read? == 0;
                    if !ended {
                        replies.queue.push_back((Instant::now(), bytes));
                    }
                }
            }
        }
        Ok(End::Close)
    }
}

/// The replies of one connection that are not forwarded yet.
struct Replies<'a, W> {
    /// Pieces of replies with the time of their arrival.
    queue: VecDeque<(Instant, Vec<u8>)>,
    fault: Fault,
    /// Bytes until the cut.
    left: usize,
    /// The time at which the last piece was forwarded.
    last: Instant,
    count: &'a AtomicU64,
    client: W,
}

impl<W: AsyncWrite + Unpin> Replies<'_, W> {
    const fn begin(&mut self, fault: Fault) {
        self.fault = fault;
        if let Fault::Cut(after, _) = fault {
            self.left = after;
        }
    }

    /// The time at which the next piece is to be forwarded.
    fn due(&self) -> Option<Instant> {
        let &(came, _) = self.queue.front()?;
        match self.fault {
            Fault::BlackHole | Fault::Mute => None,
            Fault::None | Fault::Refuse | Fault::Cut(..) => Some(came),
            Fault::Drip(interval) => Some(self.last.max(came) + interval),
            Fault::Delay(delay) => Some(came + delay),
        }
    }

    /// Forwards one piece. Returns the way in which the connection must end after it, if it must end.
    async fn pass(&mut self) -> io::Result<Option<End>> {
        let Some((came, mut piece)) = self.queue.pop_front() else { return Ok(None) };
        let most = match self.fault {
            Fault::Cut(..) => self.left,
            Fault::Drip(_) => 1,
            _ => piece.len(),
        };
        let rest = piece.split_off(most.min(piece.len()));
        if !rest.is_empty() {
            self.queue.push_front((came, rest));
        }
        self.count.fetch_add(piece.len() as u64, Ordering::SeqCst);
        self.client.write_all(&piece).await?;
        self.last = Instant::now();
        let Fault::Cut(_, end) = self.fault else { return Ok(None) };
        self.left -= piece.len();
        Ok((self.left == 0).then_some(end))
    }
}
