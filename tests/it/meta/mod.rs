//! The sources, the examples and the documentation themselves.

mod debug_page;
mod file_size;
mod hashers;
mod import_cycles;
mod import_graph;
mod import_order;
mod module_tree;
mod naming;
mod purity;
mod redis_scripts;
mod security_page;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};

/// Texts of source files by path, `/` between the names.
type Sources = BTreeMap<String, String>;

/// The root of the repository.
///
/// Cargo sets the variable when it runs a test. Set it by hand to check another checkout with the
/// test binary of this one.
fn repository() -> PathBuf {
    let tests =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&tests).join("..")
}

/// Reads all Rust files below a folder of the repository. Paths are relative to that folder.
fn read_sources(folder: &str) -> Sources {
    let root = repository().join(folder);
    let mut sources = Sources::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            if path.is_dir() && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().to_str().unwrap();
                sources.insert(relative.replace('\\', "/"), fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(!sources.is_empty(), "no source file in {}", root.display());
    sources
}

/// The tokens of a text in order, without comments. Each group of tokens ends with an empty token.
fn words(text: &str) -> Vec<String> {
    fn flatten(stream: TokenStream, tokens: &mut Vec<String>) {
        for token in stream {
            match token {
                TokenTree::Group(group) => {
                    flatten(group.stream(), tokens);
                    tokens.push(String::new());
                }
                other => tokens.push(other.to_string()),
            }
        }
    }

    let mut tokens = Vec::new();
    flatten(text.parse().expect("Rust tokens"), &mut tokens);
    tokens
}

/// Made-up sources for the tests of the checks.
fn sources(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect()
}
