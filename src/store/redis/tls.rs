//! The certificates and the crypto provider for connections to Redis by rustls, a TLS library.

use deadpool_redis::redis::{ClientTlsConfig, TlsCertificates};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::error::RedisStoreError;

/// The certificates that an application sets for connections to Redis. All are in PEM format.
#[derive(Clone, Default)]
pub(super) struct TlsCertificateSettings {
    /// The root certificates to trust, or `None` for the system's root certificates.
    pub(super) roots: Option<Vec<u8>>,
    /// The client's certificate chain and its private key.
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsCertificateSettings {
    pub(super) const fn is_empty(&self) -> bool {
        self.roots.is_none() && self.client.is_none()
    }

    /// Converts the settings into the certificates for the client library (the crate `redis`). The
    /// result always contains root certificates.
    ///
    /// The client library reads the system's root certificates only if its feature `tls-native-tls`
    /// is disabled. This crate's `redis-native-tls` enables that feature, and so may any other
    /// crate of the application. rustls would then trust no certificate at all
    /// (`create_rustls_config` in redis 1.8). So this method itself reads the system's root
    /// certificates, unless the application sets others.
    pub(super) fn into_certificates(self) -> Result<TlsCertificates, RedisStoreError> {
        let roots = match self.roots {
            Some(roots) if CertificateDer::pem_slice_iter(&roots).next().is_some() => roots,
            Some(_) => {
                return Err(RedisStoreError::InvalidCertificate(
                    "the root certificates contain no certificate in PEM format".to_owned(),
                ));
            }
            None => system_roots()?,
        };
        let client_tls = self
            .client
            .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        Ok(TlsCertificates { client_tls, root_cert: Some(roots) })
    }
}

/// Reads the root certificates of the system, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// name.
fn system_roots() -> Result<Vec<u8>, RedisStoreError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::warn!("root certificate for Redis not used: {error}");
    }
    // rustls refuses all root certificates if it cannot read one of them.
    let is_usable = |certificate: &&CertificateDer<'_>| {
        RootCertStore::empty().add((*certificate).clone()).is_ok()
    };
    let roots: Vec<u8> =
        found.certs.iter().filter(is_usable).flat_map(|certificate| pem(certificate)).collect();
    if roots.is_empty() {
        return Err(RedisStoreError::InvalidCertificate(
            "the system has no root certificates: install them, set SSL_CERT_FILE, or use \
             RedisSource::root_certificates"
                .to_owned(),
        ));
    }
    Ok(roots)
}

/// Encodes a certificate as PEM (RFC 7468), the only format that the client library takes.
fn pem(certificate: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const BYTES_PER_LINE: usize = 48;
    let mut text = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in certificate.chunks(BYTES_PER_LINE) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte))
                << (8 * (3 - group.len()));
            let digits = [18, 12, 6, 0].map(|shift| (bits >> shift & 63) as usize);
            for (place, digit) in digits.into_iter().enumerate() {
                let digit = if place <= group.len() { DIGITS.get(digit) } else { None };
                text.push(digit.copied().unwrap_or(b'='));
            }
        }
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END CERTIFICATE-----\n");
    text
}

/// Makes ring the process's crypto provider, unless the process has one.
///
/// If the process has no provider, and rustls cannot choose one by itself, rustls panics on the
/// first connection. Call this function only for a source that connects by TLS, because the
/// provider applies to the whole process.
pub(super) fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none()
        && ring::default_provider().install_default().is_err()
    {
        log::debug!("another thread installed a crypto provider for rustls at the same time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_keeps_its_bytes_in_pem() {
        for length in [0, 1, 2, 3, 47, 48, 49, 1000] {
            let certificate: Vec<u8> = (0..length).map(|n| (n * 7 % 256) as u8).collect();
            let text = pem(&certificate);
            assert_eq!(CertificateDer::from_pem_slice(&text).unwrap().as_ref(), certificate);
        }
    }

    #[test]
    fn certificates_of_an_application_replace_those_of_the_system() {
        let roots = pem(b"root");
        let settings = TlsCertificateSettings {
            roots: Some(roots.clone()),
            client: Some((b"chain".to_vec(), b"key".to_vec())),
        };
        let certificates = settings.into_certificates().unwrap();
        assert_eq!(certificates.root_cert, Some(roots));
        let client = certificates.client_tls.unwrap();
        assert_eq!((&client.client_cert[..], &client.client_key[..]), (&b"chain"[..], &b"key"[..]));
    }
}
