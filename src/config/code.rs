//! The kinds of faults that a config can have, each with a code that stays: scripts, annotations and searches go by it.
//! The table of `docs/reference/errors.md` is generated from here; advice is Markdown, as on that page.

use std::fmt;

macro_rules! codes {
    ($($name:ident = $code:literal $title:literal $advice:literal)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!($code, ": ", $title, ".")] $name,)*
        }

        impl Code {
            /// All kinds, in the order of their codes.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The code: an `E` and three digits. It never changes, and is not used again if the kind goes.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code),* }
            }

            /// The kind in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title),* }
            }

            /// What to do about it, as Markdown for the reference.
            pub fn advice(self) -> &'static str {
                match self { $(Code::$name => $advice),* }
            }
        }
    };
}

codes! {
    Unreadable = "E001" "the file can't be read"
        "Check the path and its permissions. A config is UTF-8 and at most 1 MiB."
    NotYaml = "E002" "not YAML"
        "The text is not YAML from there on. Indent with spaces, put quotes around what begins with `*`, `&`, `@`, `%` or has `: ` in it."
    Empty = "E003" "empty file"
        "A config begins with `version: 1`."
    KeyTwice = "E004" "a key twice"
        "Remove one of them. Write several values as a list."
    Documents = "E005" "more than one document"
        "Put each config into a file of its own."
    MergeKey = "E006" "a merge key"
        "Write the keys out. An alias of a whole value (`*name`) is fine."
    Alias = "E007" "an alias that can't be followed"
        "Write the value out."
    Tag = "E008" "a tag"
        "Remove `!…`: the schema has the type of every value."
    Unquoted = "E009" "a template without quotes"
        "Put quotes around the whole value, or begin it with `|` and go on in the next line."

    UnknownKey = "E010" "unknown key"
        "Use the suggestion, or a key of [config.md](config.md)."
    MissingKey = "E011" "a key is missing"
        "Add it. A file without any key of a config is for another program: do not check it."
    WrongType = "E012" "wrong type"
        "A list goes in `[…]`, text that looks like a number or `true` in quotes, a number without."
    NotPossible = "E013" "not one of the possible values"
        "Use one of the values in the message."
    OutOfRange = "E014" "a number out of range"
        "The bound is in the message. Remove the key for no limit."
    Quantity = "E015" "an invalid quantity, or one without a unit"
        "Quantities carry their unit: `10ms`, `64KiB`, `99Hz`, `0.1%`. A time of day: `\"02:30\"`."
    Count = "E016" "too few or too many entries"
        "Add an entry, or keep one where one is allowed."
    TooDeep = "E017" "nested too deeply"
        "A config has at most 64 levels."
    Include = "E018" "an include that can't be followed"
        "The message has the reason. Includes are YAML files in or below the config's directory, with `version: 1`."
    Part = "E019" "a partial config by itself"
        "Run a config that includes it. Without `part: true`, the file is a config of its own."

    UnknownProgram = "E020" "no such program"
        "`ebpf-run list` lists the programs."
    UnknownFilter = "E021" "no such filter"
        "`ebpf-run describe PROGRAM` lists its filters."
    UnknownMap = "E022" "no such map"
        "`ebpf-run describe PROGRAM` lists its maps."
    UnknownSink = "E023" "no such sink"
        "Add it to `sinks`, or correct the name."
    UnusedSink = "E024" "a sink that nothing writes to"
        "Add it to a probe's `sinks`, or remove it."
    ProbeTwice = "E025" "two probes of one name"
        "Give one of them a `name`."
    SinkTwice = "E026" "a sink twice"
        "Remove or rename one of them."
    PathTwice = "E027" "two sinks write to one place"
        "Give each its own `path`."
    Misplaced = "E028" "a key that the program does not use"
        "`interval`, `clear`, `per_cpu`, `top` and `sort` are for aggregating programs, `buffer` and `order` for programs that send events."
    UnusedDefault = "E029" "a default that no probe uses"
        "Remove it from `defaults`."

    FilterType = "E030" "a filter's value is of the wrong type"
        "The message has the type."
    FilterFit = "E031" "a filter's value does not fit"
        "A number fits into the bits and a text into the bytes that the kernel keeps; a command has 15 bytes, without what ps adds to a kworker. A clock has a `period` of 100000 ns or more. A `min_…` is at most its `max_…`."
    FilterChoice = "E032" "not one of the filter's values"
        "Use one of the values in the message."
    FilterCount = "E033" "too few or too many values of a filter"
        "Remove the filter for no restriction. For more values than possible, use two probes. Text with escapes counts twice."
    FilterNot = "E034" "a filter that can't be negated"
        "`not` is for filters that compare values, not for limits."
    FilterName = "E035" "not a valid name for the filter"
        "Disks go by name (`lsblk`), units by name, cgroups by their path below the root, users by number or name. `*` is allowed only at the end of a command."

    UnknownField = "E040" "no such field, or no such counter to sort by"
        "`ebpf-run describe PROGRAM` lists its fields."
    UnknownVariable = "E041" "no such name in a template"
        "Records have the program's fields, `time`, `ts`, `probe`, `name`, `host`, `start` and `labels`; headers and locks only the last four, paths `probe` too."
    UnknownFormatter = "E042" "no such formatter, test or function in a template"
        "[config.md](config.md#templates) has the formatters and tests. There are no functions."
    TemplateSyntax = "E043" "invalid template syntax"
        "Close every `{{ … }}` and `{% … %}`."
    Misapplied = "E044" "a formatter on a value of the wrong type"
        "`clock` and `date` need `time`, `duration` nanoseconds, `left` and `right` a width."
    ColumnTwice = "E045" "a column twice"
        "Remove one of them, or rename one: `{name: \"{{ … }}\"}`."
    ColumnsNeeded = "E046" "a table needs its columns named"
        "Add `columns`."
    TemplateNeeded = "E047" "events need a template"
        "Only aggregates are printed without a `template`."
    Growth = "E048" "a template without a bound on its memory"
        "`*` is for numbers: write `| int` behind each operand that is a number. A template with variables (`set`, `for`, `with`) can join values ten times."

    BufferSize = "E050" "a buffer size out of range"
        "At least one record, at most 1 GiB."
    Wakeup = "E051" "an invalid wakeup"
        "The message has what the buffer supports."
    Latency = "E052" "a time out of range"
        "From `1ms` to `60s`; an aggregate's `interval` from `10ms` on."
    Submit = "E053" "`submit` without a ring buffer"
        "Remove `submit`: it is for ring buffers."

    Window = "E060" "an invalid window"
        "The message has the bound. A start can be delayed by at most a day."
    Lock = "E061" "a lock without effect"
        "The `lock` is one path for all runs of the config, without `start`. `on_locked` needs a `lock`."
    Schedule = "E062" "an invalid schedule"
        "`every` (minutes that divide an hour, hours that divide a day) or `at` (`\"02:30\"`), not both; `window` has a `duration`, and a `lock` where two windows could overlap."

    WithoutFile = "E070" "a file key in a sink without a file"
        "Give the sink a `path`, or remove the key."
    Mode = "E071" "an invalid file mode"
        "Octal and in quotes, such as `\"0640\"`: the owner can read and write, other users can't write."
    Rotate = "E072" "files rotated too often"
        "`rotate` takes `4KiB` and `1s` or more."
    Keep = "E073" "`keep` without several files"
        "`keep` needs a `path` of text and `{{ … }}` that differs for each window (`start` in the file name), or a `rotate`."
    NoFile = "E074" "an invalid file path"
        "End it with the file's name: no `/`, `.` or `..` at the end. Remove `path` for standard output."

    SetNothing = "E080" "an argument that names nothing"
        "`--set`: write `PATH=VALUE`, the path from key to key: `probes.slow-io.buffer.size=1MiB`. `--filter`: write `NAME=VALUE`. `--filter`, `--output` and `--json` are for a config of one probe: use `--set` for others."

    Unset = "E090" "a variable of the environment that is not set"
        "Set it, or write a default: `${NAME:-…}`."
    Environment = "E091" "`${…}` where it is not allowed"
        "Allowed in labels, filters, and the paths of sinks and of the lock. `$${` is a literal `${`."

    Disagreement = "E099" "schema and loader disagree"
        "A fault of `ebpf-run` itself: please report it with the file."

    Character = "E100" "a deceptive character"
        "Remove it, or write the escape that the message names in double quotes ([below](#characters))."
    Ambiguous = "E101" "ambiguous YAML"
        "Put quotes around text, and write numbers in decimal ([below](#yaml-that-readers-do-not-agree-on))."
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
