//! HTTP response caching for actix-web 4.

mod clock;
mod key;
mod stamp;
mod tag;
mod time;
