//! A tree as serde_yaml would have read it.

use super::yaml::{Node, Value};

impl Node {
    /// As serde_yaml reads it.
    pub fn to_yaml(&self) -> serde_yaml::Value {
        use serde_yaml::Value as Yaml;
        match &self.value {
            Value::Scalar { text, plain: true } => plain(text),
            Value::Scalar { text, .. } => Yaml::String(text.clone()),
            Value::List(items) => Yaml::Sequence(items.iter().map(Node::to_yaml).collect()),
            Value::Map(entries) => {
                Yaml::Mapping(entries.iter().map(|(key, node)| (key.name.clone().into(), node.to_yaml())).collect())
            }
            Value::Broken => Yaml::Null,
        }
    }
}

/// What serde_yaml takes a scalar without quotes for.
pub fn plain(text: &str) -> serde_yaml::Value {
    use serde_yaml::Value as Yaml;
    // What has no quotes may come from the environment, and is a scalar even then
    let may_be_more = text.contains(|c: char| c.is_whitespace() || "#[]{}&*!|>,'\"%@`".contains(c));
    match serde_yaml::from_str(text) {
        Ok(value @ (Yaml::Null | Yaml::Bool(_) | Yaml::Number(_))) if !may_be_more => value,
        _ => Yaml::String(text.to_owned()),
    }
}
