//! The examples of the documents work: every config that is shipped or printed, and the program of the guide.

mod blocks;
pub(crate) mod commands;
mod links;
pub(crate) mod markdown;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebpf_run::catalog::{Catalog, configs, program_of};
use ebpf_run::config::Source;
use ebpf_run::error::Error;
use ebpf_run::plan::{Overrides, plan};
use libbpf_rs::Linker;

use crate::common::run;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The code blocks of a document with the language `language`.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    document.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn plans(name: &str, yaml: String, catalog: &Catalog) {
    let source = Source::parse(name.into(), "name".into(), yaml);
    if let Err(error) = source.map_err(Error::from).and_then(|source| plan(&source, catalog, &Overrides::default())) {
        panic!("{error}");
    }
}

#[test]
fn every_shipped_config_has_a_plan_and_names_the_schema() {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["probes.d", "examples"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    assert!(files.len() >= 3);
    for path in files {
        let yaml = fs::read_to_string(&path).expect("it can be read");
        assert!(yaml.starts_with("# yaml-language-server: $schema=../schemas/"), "{}", path.display());
        plans(&path.display().to_string(), yaml, &Catalog::embedded());
    }
}

#[test]
fn the_configs_of_the_documents_have_plans() {
    let document = "docs/reference/unattended.md";
    let blocks = blocks(&read(document), "yaml");
    assert!(!blocks.is_empty());
    for yaml in blocks {
        plans(document, yaml, &Catalog::embedded());
    }
}

#[test]
fn every_ready_made_config_is_in_the_list_of_programs() {
    let (reference, catalog) = (read("docs/reference/programs.md"), Catalog::embedded());
    for (name, _) in configs() {
        let program = program_of(name).expect("it has a probe");
        let listed = name == &program || reference.contains(&format!("| `{name}` | `{program}` | "));
        assert!(listed && catalog.names().any(|known| known == program), "{name} of {program}");
    }
}

/// Compiles and links a program as build.rs does. (libbpf-cargo among the tests' dependencies would have cargo build what it
/// shares with the binary a second time, with other features.)
fn compile(source: &Path, object: &Path) {
    let folder = source.parent().expect("it is in a folder");
    fs::create_dir(folder.join("bpf")).expect("a directory");
    for (name, content) in libbpf_sys::API_HEADERS {
        fs::write(folder.join("bpf").join(name), content).expect("written");
    }
    let unlinked = folder.join("unlinked.o");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let mut command = Command::new(clang);
    command
        .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-Wall", "-Werror", "-c"])
        .arg(source)
        .arg("-o")
        .arg(&unlinked);
    command.arg("-I").arg(root().join("bpf/include")).arg("-I").arg(folder);
    command.arg(format!("-D__TARGET_ARCH_{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "x86" }));
    run(&mut command).expect(0);
    let mut linker = Linker::new(object).expect("a linker");
    linker.add_file(&unlinked).expect("it can be linked");
    linker.link().expect("it links");
}

/// The guide says that a program is one C file and one config, and nothing in `src/`: this test builds them from its
/// pages.
#[test]
fn the_program_of_the_guide_compiles_and_describes_itself() {
    let guide = read("docs/how-to/write-a-program.md");
    let folder = tempfile::tempdir().expect("a directory");
    let (source, object) = (folder.path().join("forksnoop.bpf.c"), folder.path().join("forksnoop.bpf.o"));
    fs::write(&source, &blocks(&guide, "c")[0]).expect("written");
    compile(&source, &object);
    let object: &'static [u8] = fs::read(&object).expect("the object is there").leak();
    let catalog = Catalog::from_objects([("forksnoop", object)]);
    let program = catalog.program("forksnoop").expect("it is there").expect("it is sound");
    assert_eq!(
        program.event().expect("it has events").fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        ["ts", "pid", "ppid", "comm"]
    );
    assert!(program.filter("pid").is_some() && program.filter("comm").is_some());
    assert!(program.accuracy.aspects().all(|aspect| !aspect.phrases.is_empty()), "{:?}", program.accuracy);
    plans("forksnoop.yaml", blocks(&guide, "yaml")[0].clone(), &catalog);
}

/// Every defence in SECURITY.md names tests, and all of them exist.
#[test]
fn each_defence_of_the_threat_model_has_its_tests() {
    let page = read("SECURITY.md");
    let (_, defences) = page.split_once("\n## Defences\n").expect("it has this section");
    let defences = defences.split("\n## ").next().unwrap_or_default();
    let items: Vec<&str> = defences.split("\n- ").skip(1).collect();
    assert!(items.len() > 20, "only {} defences were found", items.len());
    for item in items {
        let (what, tests) = item.split_once("\n  Test: ").unwrap_or_else(|| panic!("no test is named: {item}"));
        let tests = tests.split("\n#").next().unwrap_or_default();
        let named: Vec<(&str, &str)> =
            tests.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::")).collect();
        assert!(!named.is_empty(), "no test is named: {what}");
        for (file, test) in named {
            assert!(has_test(file, test), "{file}::{test} does not exist: {what}");
        }
    }
}

/// Whether a file has this test; for the hostile user, whether there is such an attack or setting.
fn has_test(file: &str, test: &str) -> bool {
    if file == "tests/hostile" {
        let name = format!("\"{test}\"");
        return ["attacks/mod.rs", "window.rs"].iter().any(|part| read(&format!("{file}/{part}")).contains(&name));
    }
    let source = read(file);
    let after_attributes = source.split("#[test]\n").skip(1);
    after_attributes.map(str::trim_start).any(|code| code.starts_with(&format!("fn {test}()")))
}
