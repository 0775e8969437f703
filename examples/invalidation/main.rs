//! A small blog over SQLite: its pages are tagged when they are made, and purged by what is written.
//!
//! With `--load N` it serves and asks itself: N reads and writes at once, and whether any reader was
//! ever shown what was there before a write that had been acknowledged.

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

/// The database, and the queries it knows.
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

    /// Off the workers, for a database takes its time.
    async fn ask<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> actix_web::Result<T> {
        let database = Arc::clone(&self.0);
        let work = move || query(&database.lock().unwrap_or_else(PoisonError::into_inner));
        web::block(work).await?.map_err(ErrorInternalServerError)
    }
}

/// All titles. It depends on every post.
#[get("/")]
async fn index(blog: web::Data<Blog>, cache: CacheOptions) -> actix_web::Result<String> {
    cache.tag("posts");
    let titles = |database: &Connection| -> rusqlite::Result<Vec<String>> {
        let mut query = database.prepare("select title from posts order by id")?;
        query.query_map([], |row| row.get(0))?.collect()
    };
    Ok(blog.ask(titles).await?.join("\n"))
}

/// One post. A rule tags it `post:{id}`.
#[get("/posts/{id}")]
async fn post(blog: web::Data<Blog>, id: web::Path<u32>) -> actix_web::Result<String> {
    let find = move |database: &Connection| {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        database.query_one("select title, version from posts where id = ?1", [*id], row)
    };
    let (title, version): (String, i64) = blog.ask(find).await?;
    Ok(format!("{title}, version {version}\n"))
}

/// The same post as a feed has it, by another URL.
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
    let version: i64 = blog.ask(find).await?;
    Ok(format!("version {version}\n"))
}

/// Changes first, then purges, and acknowledges last.
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
    let version: i64 = blog.ask(change).await?;
    cache.purge_tags([format!("post:{id}"), "posts".to_owned()]).await?;
    Ok(HttpResponse::Ok().body(format!("version {version}\n")))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let operations = match (env::args().nth(1).as_deref(), env::args().nth(2)) {
        (Some("--load"), Some(operations)) => Some(operations.parse()?),
        (None, _) => None,
        _ => return Err("use it without arguments, or with --load N".into()),
    };
    let port = if operations.is_some() { 0 } else { port() };
    let blog = Blog::open()?;
    let cache = Cache::builder(MemoryStore::new(64 * 1024 * 1024))
        .rule(Rule::pattern("/posts/{id}").tag("post:{id}"))
        .build()?;
    let (server, addr) = serve(&blog, &cache, port)?;
    println!("listening on http://{addr}");
    let Some(operations) = operations else {
        println!("Ask twice, write, and ask again:");
        println!("  curl -i http://{addr}/posts/1   # Cache-Status: fwd=uri-miss; stored");
        println!("  curl -i http://{addr}/posts/1   # Cache-Status: hit");
        println!("  curl -X PUT -d 'A new title' http://{addr}/posts/1");
        println!("  curl -i http://{addr}/feed/1    # Cache-Status: fwd=uri-miss; stored");
        println!("  curl -i http://{addr}/          # Cache-Status: fwd=uri-miss; stored");
        return Ok(server.await?);
    };
    let (handle, running) = (server.handle(), actix_web::rt::spawn(server));
    let found = load(addr, operations).await?;
    handle.stop(false).await;
    running.await??;
    println!("{found}");
    if found.stale == 0 { Ok(()) } else { Err("stale reads".into()) }
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
struct Found {
    reads: usize,
    hits: usize,
    writes: usize,
    stale: usize,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reads, hits, writes, stale } = self;
        write!(f, "{reads} reads, {hits} of them hits, {writes} writes: {stale} stale reads")
    }
}

/// Eight that read and two that write, until there were so many reads and writes.
async fn load(addr: SocketAddr, operations: usize) -> Result<Found, Box<dyn Error>> {
    let acknowledged: Arc<[AtomicI64; POSTS]> = Arc::default();
    let left = Arc::new(AtomicUsize::new(operations));
    let clients = (0..10).map(|number| {
        let (acknowledged, left) = (Arc::clone(&acknowledged), Arc::clone(&left));
        actix_web::rt::spawn(client(addr, number, acknowledged, left))
    });
    let mut all = Found::default();
    for client in clients.collect::<Vec<_>>() {
        let found = client.await??;
        all.reads += found.reads;
        all.hits += found.hits;
        all.writes += found.writes;
        all.stale += found.stale;
    }
    Ok(all)
}

async fn client(
    addr: SocketAddr,
    number: usize,
    acknowledged: Arc<[AtomicI64; POSTS]>,
    left: Arc<AtomicUsize>,
) -> Result<Found, Box<dyn Error>> {
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<String>();
    let mut found = Found::default();
    let mut at = number;
    while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    {
        // Another post each time, in another order for each client.
        at = (at * 5 + 2 * number + 1) % POSTS;
        let writes = number < 2;
        let path = if writes || found.reads % 2 == 0 { "posts" } else { "feed" };
        let request = hyper::Request::builder()
            .method(if writes { "PUT" } else { "GET" })
            .uri(format!("http://{addr}/{path}/{at}"))
            .body(if writes { format!("Title by {number}") } else { String::new() })?;
        let Some(acknowledged) = acknowledged.get(at) else { continue };
        // Before it is asked: what is acknowledged now must be seen then.
        let least = acknowledged.load(Ordering::SeqCst);
        let answer = http.request(request).await?;
        let status = answer.headers().get("cache-status");
        found.hits += usize::from(
            status.is_some_and(|status| status.as_bytes().starts_with(b"actix-web-cache; hit")),
        );
        let body = http_body_util::BodyExt::collect(answer.into_body()).await?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let version = text.trim().rsplit(' ').next().and_then(|version| version.parse().ok());
        let version: i64 = version.ok_or("an answer without version")?;
        if writes {
            acknowledged.fetch_max(version, Ordering::SeqCst);
            found.writes += 1;
        } else {
            found.reads += 1;
            found.stale += usize::from(version < least);
        }
    }
    Ok(found)
}

/// From the environment, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
