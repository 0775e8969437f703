//! TLS to Redis, and certificates that do not verify.

use std::sync::Arc;

use actix_web_cache::{RedisStore, redis::RedisSource};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::CryptoProvider;

use crate::{
    redis::{own_store_with_defaults, page_path, shared_store, shop},
    support::{PageServer, RedisServer, runs_in_own_process},
};

/// A certificate authority.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a server with this name, which expires at the end of `year`, and its key.
    fn sign(&self, name: &str, year: i32) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The source of a server, which trusts only this authority.
    fn source(&self, server: &RedisServer) -> RedisSource {
        let url = format!("rediss://name:secret@{}/", server.tls_addr());
        let source: RedisSource = url.parse().unwrap();
        source.root_certificates(self.certificate.clone())
    }
}

/// The year in which valid certificates expire.
const FAR_FUTURE: i32 = 2100;

#[actix_web::test]
async fn processes_share_redis_over_tls() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("127.0.0.1", FAR_FUTURE);
    let redis = RedisServer::with_tls(&certificate, &key);
    redis.command(&["ACL", "SETUSER", "name", "on", ">secret", "~*", "&*", "+@all"]);
    let sites = [0, 1].map(|_| shop(shared_store(authority.source(&redis))));
    let first = sites[0].get_as_until_hit("/1", "site").await;
    assert_eq!(sites[1].get_as_until_hit("/1", "site").await.run, first.run);
    sites[0].handle().purge_url("http://site/1").await.unwrap();
    assert!(!sites[1].get_as("/1", "site").await.is_hit);
    assert!(sites.iter().all(|site| site.warnings().is_empty()));
}

#[actix_web::test]
async fn redis_with_invalid_certificate_is_unused_until_the_certificate_is_replaced() {
    let (authority, other) = (Authority::new(), Authority::new());
    let valid = authority.sign("127.0.0.1", FAR_FUTURE);
    let invalid = [
        ("of another authority", other.sign("127.0.0.1", FAR_FUTURE)),
        ("expired", authority.sign("127.0.0.1", 2020)),
        ("of another server", authority.sign("127.0.0.2", FAR_FUTURE)),
    ];
    for (case, (certificate, key)) in invalid {
        let redis = RedisServer::with_tls(&certificate, &key);
        redis.command(&["ACL", "SETUSER", "name", "on", ">secret", "~*", "&*", "+@all"]);
        let store = own_store_with_defaults(authority.source(&redis));
        let site = PageServer::over(store.clone());
        site.load(8, 100, page_path).await.assert_within_budget(case);
        assert!(
            store.stats().circuit_open && store.stats().connections == 0,
            "{case}: {:?}",
            store.stats()
        );
        assert_eq!(site.runs.get(), 100, "{case}");
        let warnings = site.warnings();
        assert_eq!(warnings.len(), 1, "{case}: {warnings:?}");
        assert!(!warnings[0].contains("secret"), "{case}: {warnings:?}");

        redis.certify(&valid.0, &valid.1);
        site.get_until_hit("/1").await;
        assert!(!store.stats().circuit_open, "{case}");
    }
}

#[actix_web::test]
async fn tls_on_one_side_only_fails_no_request() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("127.0.0.1", FAR_FUTURE);
    let redis = RedisServer::with_tls(&certificate, &key);
    let (plain, tls) = (redis.addr(), redis.tls_addr());
    for url in [format!("rediss://name:secret@{plain}"), format!("redis://name:secret@{tls}")] {
        let store = own_store_with_defaults(&url);
        let site = PageServer::over(store.clone());
        site.load(8, 100, page_path).await.assert_within_budget(&url);
        assert!(
            store.stats().circuit_open && store.stats().connections == 0,
            "{:?}",
            store.stats()
        );
        let warnings = site.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let logged = |secret: &str| warnings[0].contains(secret);
        assert!(!logged("secret") && !logged(&plain.port().to_string()), "{warnings:?}");
        assert!(!logged(&tls.port().to_string()), "{warnings:?}");
    }
}

/// A crypto provider serves the whole process, so a store installs one only if it cannot do without.
#[test]
fn crypto_provider_is_installed_only_for_tls_and_only_if_the_process_has_none() {
    let test =
        "redis::tls::crypto_provider_is_installed_only_for_tls_and_only_if_the_process_has_none";
    if !runs_in_own_process(test) {
        return;
    }
    let build = |url: &str| {
        let source: RedisSource = url.parse().unwrap();
        RedisStore::new(source.root_certificates(Authority::new().certificate), "test").unwrap()
    };
    let _plain = RedisStore::new("redis://127.0.0.1:1", "test").unwrap();
    assert!(CryptoProvider::get_default().is_none(), "a store without TLS installs no provider");
    let _tls = build("rediss://127.0.0.1:1");
    let installed = CryptoProvider::get_default().cloned().expect("a provider for TLS");
    let _other = build("rediss://127.0.0.1:2");
    assert!(Arc::ptr_eq(&installed, CryptoProvider::get_default().unwrap()), "it was replaced");
}
