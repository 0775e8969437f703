//! The cache as a middleware, together with other middleware.

mod actix_middleware;
mod compress;
mod cors;
mod handler_requests;
mod inner_errors;
mod served_files;
