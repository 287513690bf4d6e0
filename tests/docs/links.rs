//! Links between the documents have valid targets, and the book has every page.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::markdown::{Page, files, pages, root};

/// `a/b/../c` becomes `a/c`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => normal.pop().then_some(())?,
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

/// The problem with a link of a page.
fn fault(page: &Page, target: &str) -> Option<String> {
    let has_scheme = target.split_once(':').is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_lowercase()));
    if has_scheme {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { Some(page.path.clone()) } else { normal(&page.path.with_file_name(path)) };
    let Some(file) = file else { return Some("it leaves the repository".to_owned()) };
    if !root().join(&file).exists() {
        return Some(format!("{} does not exist", file.display()));
    }
    let anchor = anchor?;
    let text = fs::read_to_string(root().join(&file)).ok().filter(|_| file.extension().is_some_and(|e| e == "md"));
    let Some(text) = text else { return Some("only pages have anchors".to_owned()) };
    let anchors = Page { path: file, text }.anchors();
    (!anchors.iter().any(|known| known == anchor)).then(|| format!("there is no such anchor among {anchors:?}"))
}

#[test]
fn every_link_and_anchor_leads_somewhere() {
    let pages = pages("");
    assert!(pages.len() > 20);
    let mut faults = Vec::new();
    for page in &pages {
        for (line, target) in page.links() {
            if let Some(fault) = fault(page, &target) {
                faults.push(format!("{}:{line}: {target}: {fault}", page.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_a_fault() {
    let page = Page::read("docs/README.md");
    for (target, expected) in [
        ("none.md", "does not exist"),
        ("#none", "no such anchor"),
        ("../README.md#none", "no such anchor"),
        ("../../README.md", "leaves the repository"),
        ("/README.md", "leaves the repository"),
        ("book.toml#title", "only pages have anchors"),
    ] {
        assert!(fault(&page, target).is_some_and(|fault| fault.contains(expected)), "{target}");
    }
    assert_eq!(fault(&page, "../README.md"), None);
    assert_eq!(fault(&page, "https://example.org/none"), None);
}

#[test]
fn every_page_is_in_the_book_once() {
    let summary = Page::read("docs/SUMMARY.md");
    let mut listed: Vec<PathBuf> = summary.links().iter().map(|(_, target)| Path::new("docs").join(target)).collect();
    listed.sort();
    let mut there: Vec<PathBuf> = pages("docs").into_iter().map(|page| page.path).collect();
    there.retain(|path| *path != summary.path);
    assert_eq!(listed, there);
}

/// Messages, comments and scripts refer to pages by their path.
#[test]
fn every_page_that_the_sources_name_exists() {
    let mut named = 0;
    let mut sources = vec![PathBuf::from("Makefile"), PathBuf::from("build.rs"), PathBuf::from("Cargo.toml")];
    for directory in ["src", "bpf", "tests", "scripts", "benches", "examples", "probes.d", ".ci"] {
        sources.append(&mut files(Path::new(directory)));
    }
    for source in sources {
        let Ok(text) = fs::read_to_string(root().join(&source)) else { continue }; // not text
        for rest in text.split("docs/").skip(1) {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_/.".contains(c))).unwrap_or(rest.len());
            let Some((page, _)) = rest[..end].split_once(".md") else { continue };
            named += 1;
            let path = root().join("docs").join(format!("{page}.md"));
            assert!(path.exists(), "{} names docs/{page}.md, which does not exist", source.display());
        }
    }
    assert!(named > 20, "only {named} were found");
}

/// Wide lines are hard to review. Tables, code and the pages of the reference that are not wrapped yet are left out.
#[test]
fn lines_have_100_columns() {
    let mut wide = Vec::new();
    for page in pages("docs").into_iter().chain([Page::read("README.md")]) {
        if page.path.starts_with("docs/reference") {
            continue;
        }
        for (number, line) in page.prose().into_iter().enumerate() {
            let is_prose = !line.starts_with(['|', '#']) && !line.starts_with("<!--") && !line.starts_with("    ");
            if is_prose && line.chars().count() > 100 {
                wide.push(format!("{}:{}", page.path.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "wider than 100 columns: {}", wide.join(" "));
}
