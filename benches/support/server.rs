//! Servers that run in child processes of the same executable.

use std::{
    env, fmt, fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::{
    Error, HttpServer,
    body::MessageBody,
    dev::{AppConfig, Service},
};

/// The environment variable with the name of the server that a child process runs.
const SERVER: &str = "BENCH_SERVER";

/// A server in a child process. Dropping it ends the process.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) addr: SocketAddr,
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts this executable again, as the server `name`. [`requested_server`] returns this name
    /// there.
    pub(crate) fn start(name: &'static str) -> Self {
        Self::start_with(name, &[])
    }

    /// Starts the server `name` with further environment variables.
    pub(crate) fn start_with(name: &'static str, variables: &[(&str, String)]) -> Self {
        Self::start_under(&[], name, variables)
    }

    /// Starts the server `name` as an argument of another program, such as a profiler.
    pub(crate) fn start_under(
        program: &[&str],
        name: &'static str,
        variables: &[(&str, String)],
    ) -> Self {
        let this = env::current_exe().expect("this program");
        let mut command = program.split_first().map_or_else(
            || Command::new(&this),
            |(program, arguments)| {
                let mut command = Command::new(program);
                command.args(arguments).arg(&this);
                command
            },
        );
        let child = command
            .env(SERVER, name)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a server");
        Self::new(name, child)
    }

    /// Starts another program, which prints its address at the end of its first line.
    pub(crate) fn run(program: &str, arguments: &[&str]) -> Self {
        let command = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn();
        Self::new("program", command.expect("start a program"))
    }

    fn new(name: &'static str, mut child: Child) -> Self {
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("its address");
        let addr = line.split_whitespace().next_back().expect("its address");
        let addr = addr.parse().expect("its address");
        Self { name, addr, child, _stdout: stdout }
    }

    /// Ends the process by a signal, after which it runs its code to exit, and waits for it.
    pub(crate) fn interrupt(mut self) -> io::Result<()> {
        Command::new("kill").args(["-INT", &self.child.id().to_string()]).status()?;
        self.child.wait().map(drop)
    }

    /// Returns the CPU time that the threads of the server have used.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        let nanos = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Returns the resident memory of the server in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.kib("VmRSS:")
    }

    /// Returns the peak of the resident memory of the server in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.kib("VmHWM:")
    }

    /// Returns the number of threads of the server.
    pub(crate) fn threads(&self) -> u64 {
        self.status("Threads:").parse().expect("a number")
    }

    /// Returns the number of open descriptors of the server.
    pub(crate) fn open_descriptors(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        descriptors.expect("its descriptors").count()
    }

    fn kib(&self, name: &str) -> u64 {
        let kib: u64 = self.status(name).trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    fn status(&self, name: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("status");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of it");
        line.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the name of the server that this process must run, or `None` if [`Server::start`] did
/// not start this process.
pub(crate) fn requested_server() -> Option<String> {
    env::var(SERVER).ok()
}

/// Serves an application until the process ends.
pub(crate) fn serve<F, I, S, B>(workers: usize, factory: F) -> io::Result<()>
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
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(factory).workers(workers).bind(("127.0.0.1", 0))?;
        println!("{}", server.addrs().first().expect("an address"));
        server.run().await
    })
}
