//! Response bodies on their way to clients and into the store.

mod unread_bodies;
