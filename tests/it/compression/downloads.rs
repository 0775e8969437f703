//! Downloads that break off and that curl resumes.

use std::{fs, process::Command};

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::{CODINGS, Site, compressing, decoded, page};

/// curl resumes the file after its first half, by `Range` and `If-Range`.
#[actix_web::test]
async fn broken_download_of_each_representation_is_resumed_by_curl() {
    let (builder, _) = compressing();
    let site = Site::new(&builder.build().unwrap());
    let plain = site.client.get("/").await;
    let mut representations = vec![("identity", plain)];
    for coding in CODINGS {
        representations.push((coding, site.get_coded("/", coding).await));
    }
    let url = format!("http://{}/", site.server.addr);
    let folder = TempDir::new().unwrap();
    for (coding, whole) in representations {
        let path = folder.path().join(coding);
        fs::write(&path, &whole.body[..whole.body.len() / 2]).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--continue-at", "-"])
            .args(["--header", &format!("Accept-Encoding: {coding}")])
            .args(["--header", &format!("If-Range: {}", whole.field("etag").unwrap())])
            .args(["--write-out", "%{http_code}", "--output"])
            .arg(&path)
            .arg(&url);
        let output = spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(status, "206", "{coding}: {}", String::from_utf8_lossy(&output.stderr));
        let file = fs::read(&path).unwrap();
        assert!(file == whole.body, "{coding}");
        if coding != "identity" {
            assert!(decoded(coding, &file) == page().as_bytes(), "{coding}");
        }
    }
    assert_eq!(site.runs.get(), 1);
}
