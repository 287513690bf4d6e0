//! Just enough Markdown for the tests of the documents: code blocks, headings and links.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Markdown file of the repository.
#[derive(Clone)]
pub struct Page {
    /// Relative to the repository.
    pub path: PathBuf,
    pub text: String,
}

/// A fenced code block.
pub struct Block {
    /// What follows the fence: `yaml`, `console`.
    pub info: String,
    pub text: String,
    /// The line of the fence, from 1.
    pub line: usize,
    /// The HTML comment on the line before the fence, without its brackets.
    pub marker: Option<String>,
}

impl Block {
    pub fn is_marked(&self, kind: &str) -> bool {
        self.marker.as_deref().is_some_and(|marker| marker.starts_with(kind))
    }

    pub fn is_live(&self) -> bool {
        self.is_marked("live: ") || self.is_marked("live, may be empty: ")
    }

    /// The name of the file that the block is.
    pub fn file(&self) -> Option<&str> {
        let marker = self.marker.as_deref()?;
        marker.strip_prefix("file: ").or_else(|| marker.strip_prefix("wrong file: "))
    }
}

impl Page {
    pub fn read(path: &str) -> Page {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Page { path: path.into(), text }
    }

    pub fn blocks(&self) -> Vec<Block> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < lines.len() {
            if let Some((indent, info)) = fence(lines[at]) {
                let end = (at + 1..lines.len()).find(|&n| lines[n].trim() == "```");
                let end = end.unwrap_or_else(|| panic!("{}:{}: this block has no end", self.path.display(), at + 1));
                let text = lines[at + 1..end]
                    .iter()
                    .map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n")
                    .collect();
                let before = at.checked_sub(1).map(|n| lines[n].trim());
                let marker = before.and_then(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->"));
                blocks.push(Block { info: info.to_owned(), text, line: at + 1, marker: marker.map(str::to_owned) });
                at = end;
            }
            at += 1;
        }
        blocks
    }

    /// The text without its fenced blocks; other lines keep their numbers.
    pub fn prose(&self) -> Vec<&str> {
        let mut inside = false;
        let mut prose = Vec::new();
        for line in self.text.lines() {
            let is_fence = line.trim_start().starts_with("```");
            prose.push(if inside || is_fence { "" } else { line });
            inside ^= is_fence;
        }
        prose
    }

    /// What `#…` may be, by the rule that GitHub and mdBook share.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for line in self.prose() {
            let text = line.trim_start_matches('#');
            if text.len() < line.len() && line.len() - text.len() <= 6 && text.starts_with(' ') {
                let plain = slug(&link_texts(text.trim()));
                let same = anchors.iter().filter(|known| **known == plain).count();
                anchors.push(if same == 0 { plain } else { format!("{plain}-{same}") });
            }
        }
        anchors
    }

    /// The targets of links and images, each with its line.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose().into_iter().enumerate() {
            let line = without_code(line);
            let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
            for target in inline.chain(definition) {
                let target = target.split_whitespace().next().unwrap_or_default();
                links.push((number + 1, target.to_owned()));
            }
        }
        links
    }
}

/// The indentation and the info string of a line that opens a fenced block.
fn fence(line: &str) -> Option<(usize, &str)> {
    let info = line.trim_start().strip_prefix("```")?;
    Some((line.len() - line.trim_start().len(), info.trim()))
}

/// Code spans are blanked, so that nothing in them is taken for a link.
fn without_code(line: &str) -> String {
    let closed = line.matches('`').count() / 2 * 2;
    let mut seen = 0;
    line.chars()
        .map(|c| {
            seen += usize::from(c == '`');
            if c != '`' && seen % 2 == 1 && seen < closed + 1 { ' ' } else { c }
        })
        .collect()
}

/// `[text](target)` becomes `text`.
fn link_texts(heading: &str) -> String {
    let mut plain = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        plain += before;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

fn slug(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|c| match c {
            _ if c.is_whitespace() => Some('-'),
            '-' | '_' => Some(c),
            _ if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Every Markdown file below a directory of the repository; what is built there is not ours.
pub fn pages(directory: &str) -> Vec<Page> {
    let mut paths = files(Path::new(directory));
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    paths.iter().map(|path| Page::read(path.to_str().expect("UTF-8"))).collect()
}

/// Every file below a directory of the repository, relative to the repository.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(root().join(directory)).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    for entry in entries {
        let entry = entry.expect("an entry");
        let path = directory.join(entry.file_name());
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() && !["target", ".git", "node_modules"].iter().any(|skipped| path.ends_with(skipped)) {
            found.append(&mut files(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: "page.md".into(), text: text.to_owned() }
    }

    #[test]
    fn anchors_are_those_of_github_and_mdbook() {
        let page = page("# `run` & go: [a](b.md) x_y-Z\n## Two\n```sh\n# none\n```\n## Two\n#none\n");
        assert_eq!(page.anchors(), ["run--go-a-x_y-z", "two", "two-1"]);
    }

    #[test]
    fn links_are_found_outside_of_code_only() {
        let page = page("[a](b.md#c \"t\") `[x](y)` ![i](i.svg) [`f`](g.md)\n```\n[no](no)\n```\n[d]: e.md\n");
        let targets: Vec<(usize, String)> = page.links();
        let targets: Vec<(usize, &str)> = targets.iter().map(|(line, target)| (*line, target.as_str())).collect();
        assert_eq!(targets, [(1, "b.md#c"), (1, "i.svg"), (1, "g.md"), (5, "e.md")]);
    }

    #[test]
    fn blocks_have_their_line_and_marker() {
        let page = page("a\n<!-- file: x.yaml -->\n```yaml\na: 1\n```\n\n   ```sh\n   ls\n     x\n   ```\n");
        let blocks = page.blocks();
        assert_eq!((blocks[0].line, blocks[0].marker.as_deref()), (3, Some("file: x.yaml")));
        assert_eq!((blocks[1].info.as_str(), blocks[1].text.as_str(), &blocks[1].marker), ("sh", "ls\n  x\n", &None));
    }
}
