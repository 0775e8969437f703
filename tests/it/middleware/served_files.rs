//! The cache around `actix-files`.

use std::fs;

use actix_files::{Files, NamedFile};
use actix_web::{App, web};

use crate::support::{Client, SETUPS, cache, serve};

#[actix_web::test]
async fn files_are_stored_and_answered_from_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let large = "0123456789".repeat(20_000);
    for (name, text) in [("page.txt", "a page"), ("large.txt", &large), ("empty.txt", "")] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let path = directory.path().to_owned();
        let server = serve(workers, move || {
            let file = path.join("page.txt");
            let open = move || NamedFile::open_async(file.clone());
            App::new()
                .route("/named", web::get().to(open))
                .service(Files::new("/files", &path))
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for (path, text) in [
            ("/named", "a page"),
            ("/files/page.txt", "a page"),
            ("/files/large.txt", &*large),
            ("/files/empty.txt", ""),
        ] {
            let case = format!("{path} by {protocol:?}");
            // The first request is conditional: the client gets a 304, and the file is stored.
            let tag = client.get(&format!("{path}?tag")).await.field("etag").unwrap();
            let condition = [("if-none-match", &*tag)];
            let not_modified = client.get_with(&format!("{path}?conditional"), &condition).await;
            assert_eq!(not_modified.status, 304, "{case}");
            assert_eq!(not_modified.cache_status(), "fwd=uri-miss; stored", "{case}");

            let miss = client.get(path).await;
            assert_eq!((miss.text(), miss.is_stored()), (text, true), "{case}");
            let hit = client.get(path).await;
            assert_eq!((hit.text(), hit.is_hit()), (text, true), "{case}");
            for field in
                ["etag", "last-modified", "content-type", "content-length", "accept-ranges"]
            {
                assert_eq!(hit.field(field), miss.field(field), "{field} of {case}");
            }
            let not_modified = client.get_with(path, &condition).await;
            assert_eq!(
                (not_modified.status.as_u16(), not_modified.is_hit()),
                (304, true),
                "{case}"
            );
            assert_eq!(not_modified.body.len(), 0, "{case}");
            let modified = miss.field("last-modified").unwrap();
            let not_modified = client.get_with(path, &[("if-modified-since", &modified)]).await;
            assert_eq!(
                (not_modified.status.as_u16(), not_modified.is_hit()),
                (304, true),
                "{case}"
            );
        }
        let part = client.get_with("/files/large.txt", &[("range", "bytes=10-14")]).await;
        assert_eq!((part.status.as_u16(), part.text()), (206, "01234"), "{protocol:?}");
        assert_eq!(part.cache_status(), "hit; ttl=60", "{protocol:?}");
        let part = client.get_with("/files/large.txt?cold", &[("range", "bytes=10-14")]).await;
        assert_eq!((part.status.as_u16(), part.text()), (206, "01234"), "{protocol:?}");
        assert_eq!(part.cache_status(), "fwd=uri-miss; detail=range", "{protocol:?}");
        assert_eq!(client.get("/files/large.txt").await.text(), large, "{protocol:?}");
        assert_eq!(client.get("/files/none.txt").await.status, 404, "{protocol:?}");
    }
}
