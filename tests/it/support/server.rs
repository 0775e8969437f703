//! An actix server on a free port, in a thread of its own.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use actix_http::{Request, Response};
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _,
    boxed::{self, BoxServiceFactory},
};
use actix_web::{
    Error, HttpServer,
    body::{BoxBody, MessageBody},
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
    F: Fn() -> I + Send + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let factory = Mutex::new(factory);
    let boxed = move || {
        let application = factory.lock().unwrap()().into_factory();
        let application = application
            .map(|response: S::Response| response.into().map_body(|_, body| body.boxed()))
            .map_err(Into::into)
            .map_init_err(|error| panic!("the application does not start: {error:?}"));
        boxed::factory(application)
    };
    serve_boxed(workers, Arc::new(boxed))
}

/// An application of any type. The server of each type of application would be compiled again.
type BoxedApplication = BoxServiceFactory<AppConfig, Request, Response<BoxBody>, Error, ()>;

fn serve_boxed(workers: usize, factory: Arc<dyn Fn() -> BoxedApplication + Send + Sync>) -> Server {
    let (send, receive) = mpsc::channel();
    let thread = thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || factory())
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
