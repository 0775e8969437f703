//! No client gets a response that was made for another client.

mod cookies_and_tokens;
