//! A Redis that is spoken with by TLS, and certificates that are no good.

use actix_web_cache::RedisStore;
use deadpool_redis::{
    Manager, Pool, Runtime,
    redis::{Client, TlsCertificates},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::support::{RedisServer, Shop};

/// Somebody who signs certificates.
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

    /// A certificate for a server with this name, good until the end of a year, and its key.
    fn sign(&self, name: &str, year: i32) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A store that trusts in this one alone.
    fn store_at(&self, server: &RedisServer) -> RedisStore {
        let roots = self.certificate.clone().into_bytes();
        let trust = TlsCertificates { client_tls: None, root_cert: Some(roots) };
        let url = format!("rediss://name:secret@{}/", server.tls_addr());
        let client = Client::build_with_tls(url, trust).unwrap();
        let manager = Manager::new(client.get_connection_info().clone()).unwrap();
        let pool = Pool::builder(manager).runtime(Runtime::Tokio1).build().unwrap();
        RedisStore::new(pool).unwrap()
    }
}

const GOOD: i32 = 2100;

fn some(n: usize) -> String {
    format!("/{}", n % 10)
}

#[actix_web::test]
async fn processes_share_a_redis_by_tls() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("127.0.0.1", GOOD);
    let redis = RedisServer::with_tls(&certificate, &key);
    redis.command(&["ACL", "SETUSER", "name", "on", ">secret", "~*", "&*", "+@all"]);
    let shops = [0, 1].map(|_| Shop::over(authority.store_at(&redis)));
    let made = shops[0].until_hit_as("/1", "shop").await;
    assert_eq!(shops[1].until_hit_as("/1", "shop").await.run, made.run);
    shops[0].handle().purge_url("http://shop/1").await.unwrap();
    assert!(!shops[1].get_as("/1", "shop").await.is_hit);
    assert!(shops.iter().all(|shop| shop.warnings().is_empty()));
}

#[actix_web::test]
async fn a_certificate_that_is_no_good_is_done_without_until_there_is_a_better_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.sign("127.0.0.1", GOOD);
    let bad = [
        ("of another authority", other.sign("127.0.0.1", GOOD)),
        ("expired", authority.sign("127.0.0.1", 2020)),
        ("of another server", authority.sign("127.0.0.2", GOOD)),
    ];
    for (what, (certificate, key)) in bad {
        let redis = RedisServer::with_tls(&certificate, &key);
        redis.command(&["ACL", "SETUSER", "name", "on", ">secret", "~*", "&*", "+@all"]);
        let store = authority.store_at(&redis);
        let shop = Shop::over(store.clone());
        shop.load(8, 100, some).await.assert_within_budget(what);
        assert!(
            store.stats().is_open && store.stats().connects == 0,
            "{what}: {:?}",
            store.stats()
        );
        assert_eq!(shop.runs.get(), 100, "{what}");
        let warnings = shop.warnings();
        assert_eq!(warnings.len(), 1, "{what}: {warnings:?}");
        assert!(!warnings[0].contains("secret"), "{what}: {warnings:?}");

        redis.certify(&good.0, &good.1);
        shop.until_hit("/1").await;
        assert!(!store.stats().is_open, "{what}");
    }
}

#[actix_web::test]
async fn where_one_side_alone_speaks_tls_redis_is_done_without() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("127.0.0.1", GOOD);
    let redis = RedisServer::with_tls(&certificate, &key);
    let (plain, tls) = (redis.addr(), redis.tls_addr());
    for url in [format!("rediss://name:secret@{plain}"), format!("redis://name:secret@{tls}")] {
        let store = RedisStore::new(&url).unwrap();
        let shop = Shop::over(store.clone());
        shop.load(8, 100, some).await.assert_within_budget(&url);
        assert!(store.stats().is_open && store.stats().connects == 0, "{:?}", store.stats());
        let warnings = shop.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let told = |secret: &str| warnings[0].contains(secret);
        assert!(!told("secret") && !told(&plain.port().to_string()), "{warnings:?}");
        assert!(!told(&tls.port().to_string()), "{warnings:?}");
    }
}
