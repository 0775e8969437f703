//! An upload to one URL changes the list of a directory at another URL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, Responder, web};
use actix_web_cache::{Cache, CacheHandle, CacheOptions, PurgeError};
use hyper::Method;

use crate::support::{Client, Protocol, serve, store};

/// The number of files in each directory.
type Directories = web::Data<Mutex<HashMap<String, usize>>>;

async fn list(
    path: web::Path<String>,
    directories: Directories,
    cache: CacheOptions,
) -> impl Responder {
    cache.tag(format!("directory:{path}"));
    let directories = directories.lock().unwrap();
    format!("{} files", directories.get(&*path).copied().unwrap_or_default())
}

async fn upload(
    query: web::Query<HashMap<String, String>>,
    directories: Directories,
    cache: CacheHandle,
) -> Result<HttpResponse, PurgeError> {
    let directory = query.get("path").map_or("", |path| path.trim_matches('/')).to_owned();
    *directories.lock().unwrap().entry(directory.clone()).or_default() += 1;
    cache.purge_tag(format!("directory:{directory}")).await?;
    let list = ("location", format!("/{directory}/"));
    Ok(HttpResponse::SeeOther().insert_header(list).finish())
}

#[actix_web::test]
async fn upload_shows_in_the_list_of_its_directory() {
    let (store, directories) = (store(), Directories::from(Arc::default()));
    let server = serve(2, move || {
        App::new()
            .app_data(directories.clone())
            .wrap(Cache::new(store.clone()))
            .route("/upload", web::post().to(upload))
            .route("/{directory}/", web::get().to(list))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for count in 0..3 {
        let want = format!("{count} files");
        assert_eq!(client.get("/photos/").await.text(), want);
        assert!(client.get("/photos/").await.is_hit());
        assert_eq!(client.get("/music/").await.is_hit(), count > 0, "only one list is purged");
        let answer = client.send(Method::POST, "/upload?path=/photos", &[]).await;
        assert_eq!(answer.status, 303);
    }
}
