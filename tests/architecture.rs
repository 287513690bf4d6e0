//! The code has the structure of docs/explanation/architecture.md: which module uses which, and one type for one name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules, and the modules that each of them uses.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Every file of `src/` with its path below it, without comments.
fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut directories, mut found) = (vec![src.clone()], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the directory can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("the file can be read");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
                found.push((path.strip_prefix(&src).expect("it is below").to_owned(), code.join("\n")));
            }
        }
    }
    found.sort();
    found
}

/// The code without its tests.
fn without_tests(path: &Path, code: &str) -> String {
    if path.ends_with("tests.rs") {
        return String::new();
    }
    code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
}

/// The first identifier of `text`.
fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The modules of the crate's root that `code` uses by `crate::`.
fn used(code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{').and_then(|list| list.split("};").next()) {
            Some(list) => used.extend(list.split(',').map(|part| identifier(part.trim()).to_owned())),
            None => drop(used.insert(identifier(rest).to_owned())),
        }
    }
    used.into_iter().filter(|name| modules.contains(name)).collect()
}

/// The modules of the crate's root, and the modules that each of them uses in the code.
fn arrows() -> Arrows {
    let sources = sources();
    let root = &sources.iter().find(|(path, _)| path == Path::new("lib.rs")).expect("lib.rs").1;
    let modules: BTreeSet<String> = root
        .replace("#[cfg(test)]\nmod ", "")
        .lines()
        .filter_map(|line| line.split("mod ").nth(1)?.strip_suffix(';').map(str::to_owned))
        .collect();
    let mut arrows: Arrows = modules.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for (path, code) in &sources {
        let module = identifier(path.to_str().expect("UTF-8")).to_owned();
        if let Some(of_module) = arrows.get_mut(&module) {
            let used = used(&without_tests(path, code), &modules);
            of_module.extend(used.into_iter().filter(|other| *other != module));
        }
    }
    arrows
}

/// The table of docs/explanation/architecture.md: each module and the modules that it may use; a `*` after a name marks
/// a cycle.
fn documented() -> (Arrows, BTreeSet<(String, String)>) {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/explanation/architecture.md"))
        .expect("it is there");
    let table =
        page.split("| module | uses |\n|---|---|\n").nth(1).expect("the table").split("\n\n").next().expect("rows");
    let (mut arrows, mut marked) = (BTreeMap::new(), BTreeSet::new());
    for row in table.lines() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [module, uses] = cells[..] else { panic!("two cells: {row}") };
        let module = module.trim_matches('`').to_owned();
        let mut used = BTreeSet::new();
        for name in uses.split_whitespace().filter(|name| *name != "–") {
            let plain = name.trim_end_matches('*').trim_matches('`').to_owned();
            if name.ends_with('*') {
                marked.insert((module.clone(), plain.clone()));
            }
            used.insert(plain);
        }
        arrows.insert(module, used);
    }
    (arrows, marked)
}

#[test]
fn modules_use_what_the_table_of_the_architecture_says() {
    let (documented, _) = documented();
    let found = arrows();
    for (module, used) in &found {
        let allowed =
            documented.get(module).unwrap_or_else(|| panic!("docs/explanation/architecture.md lacks `{module}`"));
        let undocumented: Vec<_> = used.difference(allowed).collect();
        assert!(
            undocumented.is_empty(),
            "`{module}` may not use {undocumented:?}: see docs/explanation/architecture.md"
        );
        let unused: Vec<_> = allowed.difference(used).collect();
        assert!(
            unused.is_empty(),
            "`{module}` no longer uses {unused:?}: remove that from docs/explanation/architecture.md"
        );
    }
    assert_eq!(documented.len(), found.len(), "docs/explanation/architecture.md names a module that does not exist");
}

#[test]
fn modules_use_each_other_in_one_direction_but_for_the_marked_ones() {
    let (documented, marked) = documented();
    let mut arrows = documented.clone();
    for (module, other) in &marked {
        assert!(reaches(&documented, other, module), "`{module}` to `{other}` is no part of a cycle: remove the mark");
        arrows.get_mut(module).expect("it has a row").remove(other);
    }
    for (module, used) in &arrows {
        for other in used {
            assert!(!reaches(&arrows, other, module), "`{module}` and `{other}` use each other");
        }
    }
}

/// Whether `from` uses `to`, directly or through others.
fn reaches(arrows: &Arrows, from: &str, to: &str) -> bool {
    let (mut waiting, mut seen) = (vec![from.to_owned()], BTreeSet::new());
    while let Some(module) = waiting.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module.clone()) {
            waiting.extend(arrows.get(&module).into_iter().flatten().cloned());
        }
    }
    false
}

#[test]
fn only_the_module_kernel_has_the_interface_of_bpf() {
    for (path, code) in sources() {
        let may = path.starts_with("kernel") || (path.starts_with("catalog") && !code.contains("libbpf_sys"));
        assert!(may || !code.contains("libbpf_"), "{}: only `kernel` calls bpf(2)", path.display());
    }
}

#[test]
fn no_type_name_is_defined_twice() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, code) in sources() {
        for line in code.lines() {
            if let Some(name) = defined_type(line) {
                defined.entry(name.to_owned()).or_default().push(path.display().to_string());
            }
        }
    }
    assert!(defined.len() > 200, "the definitions are found");
    let twice: Vec<_> = defined.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(twice.is_empty(), "a type name is used for one type only: {twice:#?}");
}

/// The type that the line defines. An associated type of a trait's implementation does not count.
fn defined_type(line: &str) -> Option<&str> {
    let (indent, line) = (line.len() - line.trim_start().len(), line.trim_start());
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let (keyword, rest) = line.split_once(' ')?;
    let is_definition = matches!(keyword, "struct" | "enum" | "trait" | "union") || (keyword == "type" && indent == 0);
    let name = identifier(rest);
    (is_definition && name.starts_with(char::is_uppercase)).then_some(name)
}
