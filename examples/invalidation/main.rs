//! A small blog over SQLite: its responses are tagged, and each write purges the tags of its post.
//!
//! With `--load N`, the program sends N reads and writes to itself, and counts stale reads: a read is
//! stale if it shows an older version than a write that was acknowledged before the read began.

use std::{
    env,
    error::Error,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use actix_web::{
    App, HttpResponse, HttpServer, dev::Server, error::ErrorInternalServerError, get, put, web,
};
use actix_web_cache::{Cache, CacheHandle, CacheOptions, MemoryStore, Rule};
use rusqlite::{Connection, params};

const POSTS: usize = 16;

/// The database.
#[derive(Clone)]
struct Blog(Arc<Mutex<Connection>>);

impl Blog {
    fn open() -> rusqlite::Result<Self> {
        let database = Connection::open_in_memory()?;
        database.execute_batch(
            "create table posts (id integer primary key, title text not null, version integer)",
        )?;
        for id in 0..POSTS {
            let title = format!("Post {id}");
            database.execute(
                "insert into posts values (?1, ?2, 0)",
                params![i64::try_from(id).ok(), title],
            )?;
        }
        Ok(Self(Arc::new(Mutex::new(database))))
    }

    /// Runs a query on a thread for blocking work, so that it does not block the worker thread.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> actix_web::Result<T> {
        let database = Arc::clone(&self.0);
        let work = move || query(&database.lock().unwrap_or_else(PoisonError::into_inner));
        web::block(work).await?.map_err(ErrorInternalServerError)
    }
}

/// Lists all titles. The response depends on every post, so every write purges its tag.
#[get("/")]
async fn index(blog: web::Data<Blog>, cache: CacheOptions) -> actix_web::Result<String> {
    cache.tag("posts");
    let titles = |database: &Connection| -> rusqlite::Result<Vec<String>> {
        let mut query = database.prepare("select title from posts order by id")?;
        query.query_map([], |row| row.get(0))?.collect()
    };
    Ok(blog.query(titles).await?.join("\n"))
}

/// Shows one post. A rule gives the response the tag `post:{id}`.
#[get("/posts/{id}")]
async fn post(blog: web::Data<Blog>, id: web::Path<u32>) -> actix_web::Result<String> {
    let find = move |database: &Connection| {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        database.query_one("select title, version from posts where id = ?1", [*id], row)
    };
    let (title, version): (String, i64) = blog.query(find).await?;
    Ok(format!("{title}, version {version}\n"))
}

/// Shows the version of a post under another URL. The handler gives the response the tag of the post.
#[get("/feed/{id}")]
async fn feed(
    blog: web::Data<Blog>,
    id: web::Path<u32>,
    cache: CacheOptions,
) -> actix_web::Result<String> {
    cache.tag(format!("post:{id}"));
    let find = move |database: &Connection| {
        database.query_one("select version from posts where id = ?1", [*id], |row| row.get(0))
    };
    let version: i64 = blog.query(find).await?;
    Ok(format!("version {version}\n"))
}

/// Changes the post first, then purges, and then responds.
#[put("/posts/{id}")]
async fn write(
    blog: web::Data<Blog>,
    id: web::Path<u32>,
    title: String,
    cache: CacheHandle,
) -> actix_web::Result<HttpResponse> {
    let id = *id;
    let change = move |database: &Connection| {
        let update = "update posts set title = ?2, version = version + 1 where id = ?1 \
                      returning version";
        database.query_one(update, params![id, title], |row| row.get(0))
    };
    let version: i64 = blog.query(change).await?;
    cache.purge_tags([format!("post:{id}"), "posts".to_owned()]).await?;
    Ok(HttpResponse::Ok().body(format!("version {version}\n")))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let operations = match (env::args().nth(1).as_deref(), env::args().nth(2)) {
        (Some("--load"), Some(operations)) => Some(operations.parse()?),
        (None, _) => None,
        _ => return Err("usage: invalidation [--load N]".into()),
    };
    let port = if operations.is_some() { 0 } else { port() };
    let blog = Blog::open()?;
    let cache = Cache::builder(MemoryStore::new(64 * 1024 * 1024))
        .rule(Rule::pattern("/posts/{id}").with(|policy| policy.tag("post:{id}")))
        .build()?;
    let (server, addr) = serve(&blog, &cache, port)?;
    println!("listening on http://{addr}");
    let Some(operations) = operations else {
        println!("Request a post twice, change it, and request other pages that show it:");
        println!("  curl -i http://{addr}/posts/1   # Cache-Status: fwd=uri-miss; stored");
        println!("  curl -i http://{addr}/posts/1   # Cache-Status: hit");
        println!("  curl -X PUT -d 'A new title' http://{addr}/posts/1");
        println!("  curl -i http://{addr}/feed/1    # Cache-Status: fwd=uri-miss; stored");
        println!("  curl -i http://{addr}/          # Cache-Status: fwd=uri-miss; stored");
        return Ok(server.await?);
    };
    let (handle, running) = (server.handle(), actix_web::rt::spawn(server));
    let counts = load(addr, operations).await?;
    handle.stop(false).await;
    running.await??;
    println!("{counts}");
    if counts.stale == 0 { Ok(()) } else { Err("stale reads".into()) }
}

fn serve(blog: &Blog, cache: &Cache, port: u16) -> io::Result<(Server, SocketAddr)> {
    let (blog, cache) = (web::Data::new(blog.clone()), cache.clone());
    let application = move || {
        App::new()
            .wrap(cache.clone())
            .app_data(blog.clone())
            .service(index)
            .service(post)
            .service(feed)
            .service(write)
    };
    let server = HttpServer::new(application).bind(("127.0.0.1", port))?;
    let addr = server.addrs().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((server.run(), addr))
}

/// The results of a load test.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    reads: usize,
    hits: usize,
    writes: usize,
    stale: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reads, hits, writes, stale } = self;
        write!(f, "{reads} reads, {hits} of them hits, {writes} writes: {stale} stale reads")
    }
}

/// Runs eight clients that read and two that write, until they have sent `operations` requests.
async fn load(addr: SocketAddr, operations: usize) -> Result<Counts, Box<dyn Error>> {
    let acknowledged: Arc<[AtomicI64; POSTS]> = Arc::default();
    let left = Arc::new(AtomicUsize::new(operations));
    let clients = (0..10).map(|number| {
        let (acknowledged, left) = (Arc::clone(&acknowledged), Arc::clone(&left));
        actix_web::rt::spawn(client(addr, number, acknowledged, left))
    });
    let mut all = Counts::default();
    for client in clients.collect::<Vec<_>>() {
        let counts = client.await??;
        all.reads += counts.reads;
        all.hits += counts.hits;
        all.writes += counts.writes;
        all.stale += counts.stale;
    }
    Ok(all)
}

async fn client(
    addr: SocketAddr,
    number: usize,
    acknowledged: Arc<[AtomicI64; POSTS]>,
    left: Arc<AtomicUsize>,
) -> Result<Counts, Box<dyn Error>> {
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<String>();
    let mut counts = Counts::default();
    let mut id = number;
    while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    {
        // Each client requests the posts in an order of its own.
        id = (id * 5 + 2 * number + 1) % POSTS;
        let writes = number < 2;
        let path = if writes || counts.reads % 2 == 0 { "posts" } else { "feed" };
        let request = hyper::Request::builder()
            .method(if writes { "PUT" } else { "GET" })
            .uri(format!("http://{addr}/{path}/{id}"))
            .body(if writes { format!("Title by {number}") } else { String::new() })?;
        let Some(acknowledged) = acknowledged.get(id) else { continue };
        // Read before the request is sent: the response must not be older than this version.
        let least = acknowledged.load(Ordering::SeqCst);
        let response = http.request(request).await?;
        let status = response.headers().get("cache-status");
        counts.hits += usize::from(
            status.is_some_and(|status| status.as_bytes().starts_with(b"actix-web-cache; hit")),
        );
        let body = http_body_util::BodyExt::collect(response.into_body()).await?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let version = text.trim().rsplit(' ').next().and_then(|version| version.parse().ok());
        let version: i64 = version.ok_or("a response without version")?;
        if writes {
            acknowledged.fetch_max(version, Ordering::SeqCst);
            counts.writes += 1;
        } else {
            counts.reads += 1;
            counts.stale += usize::from(version < least);
        }
    }
    Ok(counts)
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
