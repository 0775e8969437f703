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
    [--namespace NAME] [--lease-ms N] [--memory-bytes N] [--max-body-bytes N] [--workers N] [--origin-timeout-ms N] [--help]";

pub(crate) const HELP: &str = "\
A streaming, caching reverse proxy.

  --origin http://HOST:PORT  where requests go; without a path, for paths are passed on as they come
  --listen ADDR:PORT         default 127.0.0.1:8080, or the port in the environment's PORT;
                             HTTP/1.1, and HTTP/2 by prior knowledge
  --preset default|rfc9111   default: what states no lifetime is kept for 60 s, personal things are
                             not; rfc9111: a plain shared cache as the RFC describes it
  --store memory             the default: each proxy has its own
  --store URL                in Redis, shared by all proxies that use it, which need the same origin:
                             redis://HOST:PORT, redis-cluster://HOST:PORT,HOST:PORT or
                             redis-sentinel://HOST:PORT,HOST:PORT/NAME; each is a feature to build
                             it with (--features redis-cluster)
  --store tiered+URL         the same with memory in front
  --namespace NAME           what names in Redis begin with; give each origin its own
  --lease-ms N               of all proxies that share a store, one asks the origin for what is not
                             stored, and the others wait for it: for as long as this, a little
                             more than the origin takes
  --memory-bytes N           what memory may take; default 67108864
  --max-body-bytes N         larger bodies pass and are not stored; default 2097152. Nor is what
                             takes more than an eighth of the memory
  --workers N                threads; default one a core
  --origin-timeout-ms N      how long the origin may be silent before its answer begins, and no
                             more of the request can be sent; default 30000

What the origin answers goes out as it is: redirects are not followed, nothing is decoded, bodies
are not held back. An origin that cannot be reached, or breaks off before its answer begins, gives
502; one that is silent, 504. Requests to change the protocol (Upgrade) are answered without
changing it; CONNECT gives 501. Each request has a connection of its own to the origin.
";

/// How to serve.
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
    pub(crate) origin: Origin,
    pub(crate) policy: Policy,
    pub(crate) store: Choice,
    pub(crate) workers: Option<NonZeroUsize>,
}

impl Args {
    /// Reads this process's command line; `None` if it asks for help.
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
        let mut patience = Duration::from_secs(30);
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("listen") => listen = parser.value()?.parse()?,
                Arg::Long("origin") => origin = Some(parser.value()?.string()?),
                Arg::Long("preset") => {
                    policy = match parser.value()?.string()?.as_str() {
                        "default" => Policy::new(),
                        "rfc9111" => Policy::rfc9111(),
                        other => return Err(format!("there is no preset {other:?}").into()),
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
                    patience = Duration::from_millis(parser.value()?.parse()?);
                }
                Arg::Short('h') | Arg::Long("help") => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        if let Some(bytes) = max_body_bytes {
            policy = policy.max_body_size(bytes);
        }
        let origin = Origin::new(&origin.ok_or("--origin is missing")?, patience)?;
        Ok(Some(Self { listen, origin, policy, store, workers }))
    }
}
