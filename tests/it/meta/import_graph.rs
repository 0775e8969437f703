//! Which file of a crate imports which.

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item, Visibility, spanned::Spanned as _, visit::Visit};

use super::{
    Sources,
    module_tree::{ModulePath, ModuleTree, is_test_only, joined, leaves, module_of},
};

/// One file names an item of another one, in a `use` or in a path within the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) from: String,
    pub(super) to: String,
    /// The line in `from`.
    pub(super) line: usize,
    /// The path as written.
    pub(super) path: String,
}

/// Reads the imports between files, without those of test code.
///
/// Test code may import from any layer for its fixtures, and no other code can depend on it.
///
/// A file that has only module declarations and re-exports imports nothing: an import through it
/// counts as one of the file that defines the item.
pub(super) fn imports(sources: &Sources) -> Vec<Import> {
    let tree = ModuleTree::parse(sources);
    let mut imports = Vec::new();
    for (file, parsed) in &tree.files {
        if !is_facade(&parsed.items) {
            let module = module_of(file);
            let mut collector = Collector { tree: &tree, file, module, imports: &mut imports };
            collector.visit_file(parsed);
        }
    }
    imports
}

/// Whether a file has only module declarations and re-exports.
fn is_facade(items: &[Item]) -> bool {
    items.iter().all(|item| match item {
        Item::Mod(item) => item.content.is_none() || is_test_only(&item.attrs),
        Item::Use(item) => !matches!(item.vis, Visibility::Inherited),
        _ => false,
    })
}

struct Collector<'a> {
    tree: &'a ModuleTree,
    file: &'a str,
    /// The module around the code that is read.
    module: ModulePath,
    imports: &'a mut Vec<Import>,
}

impl Collector<'_> {
    fn add(&mut self, path: &[String], line: usize) {
        if self.tree.is_test(&self.module) {
            return;
        }
        let Some(to) = self.tree.defining_file(&self.module, path) else { return };
        if to != self.file {
            self.imports.push(Import {
                from: self.file.to_owned(),
                to: to.to_owned(),
                line,
                path: path.join("::"),
            });
        }
    }

    /// Reads the paths in the arguments of a macro, which are not parsed.
    fn add_paths_in(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end_path(&mut path, line);
                    }
                    line = name.span().start().line;
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                other => {
                    self.end_path(&mut path, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_paths_in(group.stream());
                    }
                }
            }
        }
        self.end_path(&mut path, line);
    }

    fn end_path(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.add(path, line);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test_only(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let inner = joined(&self.module, &item.ident.to_string());
        let outer = std::mem::replace(&mut self.module, inner);
        syn::visit::visit_item_mod(self, item);
        self.module = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for import in leaves(&item.tree) {
            self.add(&import.path, item.span().start().line);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A single name is in scope: it was imported, which was counted, or is defined here.
        if path.segments.len() > 1 && path.leading_colon.is_none() {
            let names: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.add(&names, path.span().start().line);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.add_paths_in(invocation.tokens.clone());
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let expected = [
        ("use crate::b::B;", "b.rs"),
        ("use super::b::B;", "b.rs"),
        ("use crate::{b::{self, B as C}};", "b.rs"),
        ("use crate::{{c::{d::D}}};", "c/d.rs"),
        ("use crate::c::*;", "c/mod.rs"),
        ("use crate::c::D;", "c/d.rs"),
        ("use crate::D;", "c/d.rs"),
        ("use crate::c; fn f(_: c::D) {}", "c/d.rs"),
        ("fn f(_: crate::b::B) {}", "b.rs"),
        ("fn f() { crate::c::d::D::new() }", "c/d.rs"),
        ("fn f() { use crate::b::B; }", "b.rs"),
        ("fn f(_: Vec<crate::b::B>) {}", "b.rs"),
        ("fn f() { println!(\"{}\", crate::b::value()) }", "b.rs"),
        ("mod inner { use super::super::b::B; }", "b.rs"),
        ("impl crate::b::B for X {}", "b.rs"),
    ];
    for (text, to) in expected {
        let found = imports_of_a(text);
        assert!(found.iter().any(|import| import.to == to), "{text}: {found:?}");
    }
}

#[test]
fn code_without_imports_has_none() {
    for text in [
        "use std::fmt; fn f() { b::x() }",
        "// crate::b\n/// crate::b\nfn f() { \"crate::b::B\"; }",
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] use crate::b::B;",
        "mod inner { use super::X; } struct X;",
        "pub(in crate::b) fn f() {}",
        "use self::X as Y; struct X;",
    ] {
        let found = imports_of_a(text);
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}

#[test]
fn import_names_its_line() {
    let found = imports_of_a("\n\nuse crate::b::B;");
    let [import] = &found[..] else { panic!("{found:?}") };
    assert_eq!((import.line, import.path.as_str()), (3, "crate::b::B"));
}

#[test]
fn declared_test_files_import_nothing() {
    let sources = super::sources(&[
        ("a.rs", "#[cfg(test)] mod checks;"),
        ("a/checks.rs", "use crate::b::B;"),
        ("a/checks/more.rs", "use crate::b::B;"),
        ("b.rs", "pub struct B;"),
    ]);
    assert_eq!(imports(&sources), []);
}

fn imports_of_a(text: &str) -> Vec<Import> {
    let sources = super::sources(&[
        ("lib.rs", "mod a; mod b; mod c; pub use c::D;"),
        ("a.rs", text),
        ("b.rs", "pub struct B;"),
        ("c/mod.rs", "mod d; pub use self::d::*;"),
        ("c/d.rs", "pub struct D;"),
    ]);
    imports(&sources)
}
