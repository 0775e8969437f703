//! An actix server on a free port, in a thread of its own.

use std::{fmt, net::SocketAddr, sync::mpsc, thread};

use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::{
    Error, HttpServer,
    body::MessageBody,
    dev::{AppConfig, ServerHandle, Service},
};

/// A running server. Dropping it stops it.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<()>>,
}

/// Serves an application with HTTP/1.1, and with cleartext HTTP/2 by prior knowledge.
pub(crate) fn serve<F, I, S, B>(workers: usize, factory: F) -> Server
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, actix_http::Request>,
    S: ServiceFactory<actix_http::Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<actix_http::Response<B>> + 'static,
    <S::Service as Service<actix_http::Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let (send, receive) = mpsc::channel();
    let thread = thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(factory)
                .workers(workers)
                .disable_signals()
                .shutdown_timeout(1)
                .tcp_nodelay(true)
                .bind_auto_h2c(("127.0.0.1", 0))
                .unwrap();
            let addr = server.addrs()[0];
            let server = server.run();
            send.send((addr, server.handle())).unwrap();
            server.await.unwrap();
        });
    });
    let (addr, handle) = receive.recv().unwrap();
    Server { addr, handle, thread: Some(thread) }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `stop` sends the command at once. The future only waits for the end.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
