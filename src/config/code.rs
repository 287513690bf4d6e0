//! The kinds of faults that a config can have, each with a code that stays: scripts, annotations and searches go by it.
//! `docs/reference/errors.md` has the same table for people, and a test holds the two together.

use std::fmt;

macro_rules! codes {
    ($($name:ident = $code:literal $title:literal)*) => {
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
        }
    };
}

codes! {
    Unreadable = "E001" "the file can't be read"
    NotYaml = "E002" "not YAML"
    Empty = "E003" "empty file"
    KeyTwice = "E004" "a key twice"
    Documents = "E005" "more than one document"
    MergeKey = "E006" "a merge key"
    Alias = "E007" "an alias that can't be followed"
    Tag = "E008" "a tag"
    Unquoted = "E009" "a template without quotes"

    UnknownKey = "E010" "unknown key"
    MissingKey = "E011" "a key is missing"
    WrongType = "E012" "wrong type"
    NotPossible = "E013" "not one of the possible values"
    OutOfRange = "E014" "a number out of range"
    Quantity = "E015" "an invalid quantity, or one without a unit"
    Count = "E016" "too few or too many entries"
    TooDeep = "E017" "nested too deeply"
    Include = "E018" "an include that can't be followed"
    Part = "E019" "a partial config by itself"

    UnknownProgram = "E020" "no such program"
    UnknownFilter = "E021" "no such filter"
    UnknownMap = "E022" "no such map"
    UnknownSink = "E023" "no such sink"
    UnusedSink = "E024" "a sink that nothing writes to"
    ProbeTwice = "E025" "two probes of one name"
    SinkTwice = "E026" "a sink twice"
    PathTwice = "E027" "two sinks write to one place"
    Misplaced = "E028" "a key that the program does not use"
    UnusedDefault = "E029" "a default that no probe uses"

    FilterType = "E030" "a filter's value is of the wrong type"
    FilterFit = "E031" "a filter's value does not fit"
    FilterChoice = "E032" "not one of the filter's values"
    FilterCount = "E033" "too few or too many values of a filter"
    FilterNot = "E034" "a filter that can't be negated"
    FilterName = "E035" "not a valid name for the filter"

    UnknownField = "E040" "no such field, or no such counter to sort by"
    UnknownVariable = "E041" "no such name in a template"
    UnknownFormatter = "E042" "no such formatter, test or function in a template"
    TemplateSyntax = "E043" "invalid template syntax"
    Misapplied = "E044" "a formatter on a value of the wrong type"
    ColumnTwice = "E045" "a column twice"
    ColumnsNeeded = "E046" "a table needs its columns named"
    TemplateNeeded = "E047" "events need a template"
    Growth = "E048" "a template without a bound on its memory"

    BufferSize = "E050" "a buffer size out of range"
    Wakeup = "E051" "an invalid wakeup"
    Latency = "E052" "a time out of range"
    Submit = "E053" "`submit` without a ring buffer"

    Window = "E060" "an invalid window"
    Lock = "E061" "a lock without effect"
    Schedule = "E062" "an invalid schedule"

    WithoutFile = "E070" "a file key in a sink without a file"
    Mode = "E071" "an invalid file mode"
    Rotate = "E072" "files rotated too often"
    Keep = "E073" "`keep` without several files"
    NoFile = "E074" "an invalid file path"

    SetNothing = "E080" "an argument that names nothing"

    Unset = "E090" "a variable of the environment that is not set"
    Environment = "E091" "`${…}` where it is not allowed"

    Disagreement = "E099" "schema and loader disagree"

    Character = "E100" "a deceptive character"
    Ambiguous = "E101" "ambiguous YAML"
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
