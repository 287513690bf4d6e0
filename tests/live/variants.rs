//! Each variant of the programs that have several: a kernel that takes the first would never try the others. The tests that
//! know what a program must see run it once by each.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::error::Kind;
use ebpf_run::plan::{Overrides, plan};
use ebpf_run::run::{Options, run};

use crate::root;

/// Says to a process of this binary that it is to run a config, and which.
const CONFIG: &str = "EBPF_RUN_TEST_CONFIG";
const GROUP: &str = "EBPF_RUN_TEST_GROUP";
const VARIANT: &str = "EBPF_RUN_TEST_VARIANT";
/// Before the reason why the kernel can't run it.
pub const UNSUPPORTED: &str = "unsupported: ";

/// One way to an end of which the program knows several.
#[derive(Debug, Clone)]
pub struct Variant {
    pub group: String,
    pub name: String,
}

impl Variant {
    /// A command that runs `config` with this variant of its group and no other.
    pub fn runner(&self, config: &Path) -> Command {
        let mut command = Command::new(env::current_exe().expect("there is a binary"));
        command.args(["--exact", "live::variants::as_the_runner", "--ignored", "--nocapture"]);
        command.env(CONFIG, config).env(GROUP, &self.group).env(VARIANT, &self.name);
        command
    }
}

#[test]
#[ignore = "no test, but the program that `Variant::runner` starts"]
fn as_the_runner() {
    let config = env::var_os(CONFIG).expect("it is set");
    let wanted = [GROUP, VARIANT].map(|name| env::var(name).expect("it is set"));
    let source = Source::read(&PathBuf::from(config)).expect("it is a config");
    let mut plan = plan(&source, &Catalog::embedded(), &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    for (hook, left_out) in plan.probes.iter_mut().flat_map(|probe| &mut probe.hooks) {
        if hook.alternative.as_ref().is_some_and(|(group, variant)| *group == wanted[0] && *variant != wanted[1]) {
            *left_out = Some("the test is about another variant".into());
        }
    }
    if let Err(error) = run(&plan, &Options::default()) {
        let kind = if error.kind == Kind::Unsupported { UNSUPPORTED } else { "" };
        eprintln!("\n{kind}{error}");
        exit(1);
    }
}

/// Calls `test` for the binary, which makes its own choice, and with each variant of each group that `program` has.
pub fn by_each_variant(program: &str, test: impl Fn(Option<&Variant>)) {
    if !root() {
        return;
    }
    test(None);
    let program = Catalog::embedded().program(program).expect("it is there").expect("it can be read");
    let mut tried = Vec::new();
    for (group, name) in program.hooks.iter().filter_map(|hook| hook.alternative.clone()) {
        if !tried.contains(&(group.clone(), name.clone())) {
            eprintln!("{group} by {name}");
            test(Some(&Variant { group: group.clone(), name: name.clone() }));
            tried.push((group, name));
        }
    }
    assert!(tried.len() > 1, "{tried:?} are no alternatives");
}
