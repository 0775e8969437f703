//! The recipes of docs/recipes.md: each line of code in a table is compiled and tested here.

mod attributes;
mod file_server;
mod named;
mod page;
mod policies;
mod posts;
mod responses;
