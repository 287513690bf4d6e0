//! Where each value of a plan comes from, in words: `io.yaml:7`, `defaults, team.yaml:4`, `--set #1`, `--duration`,
//! `default`, `program`; behind it the variables of the environment that it was made of.

use serde_json::{Value as Json, json};

use super::{Plan, SinkPlan, Transport};
use crate::config::Source;
use crate::config::origin::Origin;
use crate::config::yaml::TreeStep::{self, Index, Key};
use crate::output::Globals;
use crate::output::template::render_global;

/// What a plan is shown with: what it was made from, and the machine and moment that it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct RenderContext<'a> {
    /// The config.
    pub source: &'a Source,
    /// CPUs that there may ever be: perf buffers are counted for each of them.
    pub possible_cpus: u64,
    /// The host's name.
    pub host: &'a str,
    /// Nanoseconds since 1970.
    pub now: i64,
}

impl RenderContext<'_> {
    /// Where the value at `path` comes from.
    pub(super) fn origin(&self, path: &[TreeStep<'_>]) -> String {
        self.source.origin(path).to_string()
    }

    /// As [`origin`](Self::origin), of a value that the program decides by default.
    pub(super) fn origin_or_program(&self, path: &[TreeStep<'_>]) -> String {
        match self.source.origin(path) {
            Origin::Default => "program".into(),
            said => said.to_string(),
        }
    }

    /// Where a value of the window comes from.
    pub(super) fn window_origin(&self, plan: &Plan, key: &str) -> String {
        if plan.window.options.contains(&key) {
            return format!("--{}", key.replace('_', "-"));
        }
        self.origin(&[Key("window"), Key(key)])
    }

    /// Where a variable comes from that the runner makes of the probe's buffer.
    pub(super) fn buffer_origin(&self, probe: usize, symbol: &str, transport: Transport) -> String {
        let key = |key| self.origin(&[Key("probes"), Index(probe), Key("buffer"), Key(key)]);
        match symbol {
            "runner_transport" if transport == Transport::Output => key("submit"),
            "runner_transport" => key("type"),
            _ => key("wakeup"),
        }
    }

    /// The sink's path as it would be now; the template itself if that has none.
    pub(super) fn path_now(&self, plan: &Plan, sink: &SinkPlan) -> String {
        let Plan { name, labels, .. } = plan;
        let (name, labels) = (name.clone(), labels.clone());
        let globals = Globals { name, host: self.host.into(), start: self.now, labels, probe: None };
        render_global(&sink.path, &sink.globals(&globals)).unwrap_or_else(|_| sink.path.clone())
    }
}

/// A value with its origin.
pub(super) fn said(value: impl serde::Serialize, from: String) -> Json {
    json!({"value": value, "from": from})
}
