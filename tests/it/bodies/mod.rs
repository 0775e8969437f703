//! Response bodies: stored, streamed and served from the store.

mod hit_fidelity;
mod unread_bodies;
