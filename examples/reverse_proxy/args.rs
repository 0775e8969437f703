//! The command line.

use std::{
    env,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use actix_web_cache::Policy;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::{origin::Origin, store::Choice};

pub(crate) const USAGE: &str = "usage: reverse_proxy --origin http://HOST:PORT \
    [--listen ADDR:PORT] [--preset default|rfc9111] [--store memory|[tiered+]URL] \
    [--namespace NAME] [--lease-ms N] [--memory-bytes N] [--max-body-bytes N] [--workers N] \
    [--origin-timeout-ms N] [--help]";

pub(crate) const HELP: &str = "\
A streaming, caching reverse proxy.

  --origin http://HOST:PORT  the server to which requests are forwarded; without a path, because the
                             paths of requests are forwarded unchanged
  --listen ADDR:PORT         default 127.0.0.1:8080, or the port in the environment variable PORT;
                             HTTP/1.1, and HTTP/2 with prior knowledge
  --preset default|rfc9111   default: responses without an explicit lifetime are stored for 60 s,
                             personal responses are not stored;
                             rfc9111: a shared cache exactly as the RFC describes it
  --store memory             the default: each proxy process has a store of its own
  --store URL                a store in Redis, shared by all proxies that use it; all of them must
                             have the same origin:
                             redis://HOST:PORT, redis-cluster://HOST:PORT,HOST:PORT or
                             redis-sentinel://HOST:PORT,HOST:PORT/NAME; build the proxy with the
                             feature of that name (--features redis-cluster)
  --store tiered+URL         the same with memory in front of Redis
  --namespace NAME           prefix of all keys in Redis; use another one for each origin
  --lease-ms N               of all proxies that share a store, only one fetches a missing response,
                             and the others wait for it at most this long; set it slightly longer
                             than the origin takes to respond
  --memory-bytes N           memory limit of the store; default 67108864
  --max-body-bytes N         larger bodies are forwarded without being stored; default 2097152.
                             Bodies larger than an eighth of the memory limit are not stored either
  --workers N                number of threads; default: one per core
  --origin-timeout-ms N      time limit until the origin begins its response, counted from the
                             request's last byte; default 30000

Responses of the origin are forwarded unchanged: redirects are not followed, nothing is decompressed,
bodies are streamed. If the origin cannot be reached or closes the connection before its response
begins, the proxy answers 502; if the origin is silent, 504. Requests to change the protocol (Upgrade)
are answered without changing it, CONNECT is answered with 501. Each request uses a new connection to
the origin.
";

/// The parsed command line.
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
    pub(crate) origin: Origin,
    pub(crate) policy: Policy,
    pub(crate) store: Choice,
    pub(crate) workers: Option<NonZeroUsize>,
}

impl Args {
    /// Parses the command line of this process. Returns `None` if it asks for help.
    pub(crate) fn read() -> Result<Option<Self>, Box<dyn Error>> {
        let port = env::var("PORT").ok().map_or(Ok(8080), |port| port.parse())?;
        let mut listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut origin = None;
        let mut policy = Policy::new();
        let mut store = Choice {
            store: "memory".to_owned(),
            memory_bytes: 64 * 1024 * 1024,
            namespace: None,
            lease: None,
        };
        let mut max_body_bytes = None;
        let mut workers = None;
        let mut origin_timeout = Duration::from_secs(30);
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("listen") => listen = parser.value()?.parse()?,
                Arg::Long("origin") => origin = Some(parser.value()?.string()?),
                Arg::Long("preset") => {
                    policy = match parser.value()?.string()?.as_str() {
                        "default" => Policy::new(),
                        "rfc9111" => Policy::rfc9111(),
                        other => {
                            return Err(format!(
                                "unknown preset {other:?}: expected default or rfc9111"
                            )
                            .into());
                        }
                    };
                }
                Arg::Long("store") => store.store = parser.value()?.string()?,
                Arg::Long("namespace") => store.namespace = Some(parser.value()?.string()?),
                Arg::Long("lease-ms") => {
                    store.lease = Some(Duration::from_millis(parser.value()?.parse()?));
                }
                Arg::Long("memory-bytes") => store.memory_bytes = parser.value()?.parse()?,
                Arg::Long("max-body-bytes") => max_body_bytes = Some(parser.value()?.parse()?),
                Arg::Long("workers") => workers = Some(parser.value()?.parse()?),
                Arg::Long("origin-timeout-ms") => {
                    origin_timeout = Duration::from_millis(parser.value()?.parse()?);
                }
                Arg::Short('h') | Arg::Long("help") => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        if let Some(bytes) = max_body_bytes {
            policy = policy.max_body_size(bytes);
        }
        let origin = Origin::new(&origin.ok_or("--origin is missing")?, origin_timeout)?;
        Ok(Some(Self { listen, origin, policy, store, workers }))
    }
}
