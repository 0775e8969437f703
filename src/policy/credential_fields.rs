//! The request fields that carry credentials by default.
//!
//! The list has the fields by which common proxies and APIs name the client of a request, or pass on
//! what identifies the client. A new field belongs here if its value usually differs between
//! clients, and if handlers answer by it.

/// The names of these fields, besides `Authorization` and `Cookie`.
pub(super) const CREDENTIAL_FIELDS: [&str; 76] = [
    "proxy-authorization",
    // API keys and tokens.
    "access-token",
    "api-key",
    "apikey",
    "auth-token",
    "dpop",
    "job-token",
    "private-token",
    "token",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-api-token",
    "x-apikey",
    "x-auth",
    "x-auth-email",
    "x-auth-key",
    "x-auth-token",
    "x-authorization",
    "x-goog-api-key",
    "x-id-token",
    "x-jwt-assertion",
    "x-session-id",
    "x-session-token",
    "x-shopify-access-token",
    "x-token",
    "x-vault-token",
    // Proxies that check logins, such as oauth2-proxy, Authelia, Authentik and Pomerium.
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "x-auth-request-access-token",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-preferred-username",
    "x-auth-request-user",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-authentik-email",
    "x-authentik-jwt",
    "x-authentik-uid",
    "x-authentik-username",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-pomerium-jwt-assertion",
    "x-remote-group",
    "x-remote-user",
    "x-user",
    "x-user-email",
    "x-user-id",
    "x-username",
    "x-webauth-user",
    // Access services of clouds.
    "cf-access-authenticated-user-email",
    "cf-access-client-id",
    "cf-access-client-secret",
    "cf-access-jwt-assertion",
    "tailscale-user-login",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-goog-iap-jwt-assertion",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    // Client certificates.
    "client-cert",
    "ssl-client-cert",
    "x-amzn-mtls-clientcert",
    "x-arr-clientcert",
    "x-client-cert",
    "x-forwarded-client-cert",
    "x-ssl-client-cert",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use actix_web::http::header::HeaderName;

    use super::*;

    #[test]
    fn names_are_valid_and_different() {
        let names: HashSet<_> =
            CREDENTIAL_FIELDS.map(|name| name.parse::<HeaderName>().unwrap()).into();
        assert_eq!(names.len(), CREDENTIAL_FIELDS.len());
        assert!(CREDENTIAL_FIELDS.iter().all(|name| name.to_ascii_lowercase() == *name));
    }
}
