//! The module tree of a crate: which names each module has, and which file defines a path.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Attribute, Item, Meta, UseTree, visit::Visit};

use super::Sources;

/// A module's path from the crate root; empty for the root.
pub(super) type ModulePath = Vec<String>;

/// The parsed files of a crate and their modules.
pub(super) struct ModuleTree {
    /// Parsed files by path.
    pub(super) files: BTreeMap<String, syn::File>,
    modules: BTreeMap<ModulePath, Module>,
}

struct Module {
    file: String,
    /// Whether only tests compile this module.
    is_test: bool,
    /// Names of the items that the module itself defines.
    items: BTreeSet<String>,
    imports: Vec<Import>,
}

/// One leaf of a `use` tree.
pub(super) struct Import {
    /// The name that the import adds to its module; `None` for a glob.
    name: Option<String>,
    /// The path as written, without the `*` of a glob.
    pub(super) path: Vec<String>,
}

/// The target of a path.
enum Target {
    Module(ModulePath),
    /// An item that this module defines, as far as the module is known to define it.
    ItemOf(ModulePath),
}

impl ModuleTree {
    pub(super) fn parse(sources: &Sources) -> Self {
        let mut tree = Self { files: BTreeMap::new(), modules: BTreeMap::new() };
        let mut test_modules = Vec::new();
        for (file, text) in sources {
            let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            tree.add(file, module_of(file), &parsed.items, file.ends_with("/tests.rs"));
            test_modules.extend(test_module_declarations(&module_of(file), &parsed.items));
            tree.files.insert(file.clone(), parsed);
        }
        for (path, module) in &mut tree.modules {
            module.is_test |= test_modules.iter().any(|test| path.starts_with(test));
        }
        tree
    }

    fn add(&mut self, file: &str, path: ModulePath, items: &[Item], is_test: bool) {
        let mut module = Module {
            file: file.to_owned(),
            is_test,
            items: items.iter().filter_map(defined_name).collect(),
            imports: Vec::new(),
        };
        for item in items {
            match item {
                Item::Mod(child) => {
                    if let Some((_, items)) = &child.content {
                        let child_path = joined(&path, &child.ident.to_string());
                        self.add(file, child_path, items, is_test || is_test_only(&child.attrs));
                    }
                }
                other => collect_imports(other, &mut module.imports),
            }
        }
        self.modules.insert(path, module);
    }

    /// Whether only tests compile the module.
    pub(super) fn is_test(&self, module: &[String]) -> bool {
        self.modules.get(module).is_some_and(|module| module.is_test)
    }

    /// The file that defines the target of a path, seen from a module. `None` for another crate's
    /// items.
    ///
    /// Re-exports are followed to the defining file.
    pub(super) fn defining_file(&self, from: &[String], path: &[String]) -> Option<&str> {
        let target = self.resolve(from, path, &mut BTreeSet::new())?;
        let (Target::Module(module) | Target::ItemOf(module)) = target;
        self.modules.get(&module).map(|module| module.file.as_str())
    }

    fn resolve(&self, from: &[String], path: &[String], seen: &mut Seen) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(ModulePath::new()),
            "self" => Target::Module(from.to_vec()),
            "super" => Target::Module(parent(from)),
            name => self.lookup(from, name, seen)?,
        };
        for segment in rest {
            let Target::Module(module) = target else { return Some(target) };
            target = match segment.as_str() {
                "self" => Target::Module(module),
                "super" => Target::Module(parent(&module)),
                name => self.lookup(&module, name, seen).unwrap_or(Target::ItemOf(module)),
            };
        }
        Some(target)
    }

    /// Finds a name in a module: a child module, an item, or an import.
    fn lookup(&self, module: &[String], name: &str, seen: &mut Seen) -> Option<Target> {
        let full = joined(module, name);
        if self.modules.contains_key(&full) {
            return Some(Target::Module(full));
        }
        let found = self.modules.get(module)?;
        if found.items.contains(name) {
            return Some(Target::ItemOf(module.to_vec()));
        }
        // An import that depends on itself has no target.
        if !seen.insert(full) {
            return None;
        }
        let named = found.imports.iter().find(|import| import.name.as_deref() == Some(name));
        if let Some(import) = named {
            return self.resolve(module, &import.path, seen);
        }
        let globs = found.imports.iter().filter(|import| import.name.is_none());
        globs.into_iter().find_map(|glob| match self.resolve(module, &glob.path, seen)? {
            Target::Module(target) => self.lookup(&target, name, seen),
            Target::ItemOf(_) => None,
        })
    }
}

/// Names whose imports are being followed.
type Seen = BTreeSet<ModulePath>;

/// The module that a file defines: `a/b.rs` and `a/b/mod.rs` are `a::b`, `lib.rs` is the root.
pub(super) fn module_of(file: &str) -> ModulePath {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { ModulePath::new() } else { path.split('/').map(str::to_owned).collect() }
}

pub(super) fn joined(module: &[String], name: &str) -> ModulePath {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn parent(module: &[String]) -> ModulePath {
    module.split_last().map_or_else(ModulePath::new, |(_, parent)| parent.to_vec())
}

fn defined_name(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::TraitAlias(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// Modules that a file declares under `#[cfg(test)]` and that have files of their own.
fn test_module_declarations(module: &[String], items: &[Item]) -> Vec<ModulePath> {
    let declared = items.iter().filter_map(|item| match item {
        Item::Mod(child) if is_test_only(&child.attrs) => Some(&child.ident),
        _ => None,
    });
    declared.map(|name| joined(module, &name.to_string())).collect()
}

/// Whether the attributes have a `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        let text = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && (text == "test" || text.starts_with("all(test,"))
    })
}

/// Collects the imports of an item, also those inside of function bodies.
fn collect_imports(item: &Item, imports: &mut Vec<Import>) {
    struct Collector<'a>(&'a mut Vec<Import>);

    impl<'ast> Visit<'ast> for Collector<'_> {
        fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
            self.0.extend(leaves(&item.tree));
        }
    }

    Collector(imports).visit_item(item);
}

/// The leaves of a `use` tree.
pub(super) fn leaves(tree: &UseTree) -> Vec<Import> {
    let mut imports = Vec::new();
    add_leaves(tree, &[], &mut imports);
    imports
}

fn add_leaves(tree: &UseTree, prefix: &[String], imports: &mut Vec<Import>) {
    let mut add = |segment: &str, name: String| {
        // `a::{self}` names `a`.
        let is_self = segment == "self" && !prefix.is_empty();
        let path = if is_self { prefix.to_vec() } else { joined(prefix, segment) };
        let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name };
        imports.push(Import { name: Some(name), path });
    };
    match tree {
        UseTree::Path(path) => {
            add_leaves(&path.tree, &joined(prefix, &path.ident.to_string()), imports);
        }
        UseTree::Name(leaf) => add(&leaf.ident.to_string(), leaf.ident.to_string()),
        UseTree::Rename(leaf) => add(&leaf.ident.to_string(), leaf.rename.to_string()),
        UseTree::Glob(_) => imports.push(Import { name: None, path: prefix.to_vec() }),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| add_leaves(tree, prefix, imports));
        }
    }
}
