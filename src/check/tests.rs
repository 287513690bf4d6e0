use super::*;

const WRONG: &str = "version: 1\nprobes: [{program: biosnop}]\nsinks: {out: {type: jsonl, x: 1}}\n";

fn written(format: Format) -> String {
    let faulty =
        check_text("a,b.yaml", WRONG, &Catalog::embedded(), Overlay::NOTHING).expect("sound").expect("it is wrong");
    faulty.written(format)
}

#[test]
fn each_format_has_file_place_code_and_words() {
    let human = written(Format::Human);
    assert!(human.starts_with("a,b.yaml:2:20: E020 there is no program `biosnop`, did you mean `bio"), "{human}");
    assert!(human.contains("\na,b.yaml:3:28: E010 unknown key `x`"), "{human}");
    let objects: Vec<serde_json::Value> =
        written(Format::Json).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!((&objects[0]["code"], &objects[0]["line"]), (&json!("E020"), &json!(2)));
    assert_eq!((&objects[0]["column"], &objects[0]["end_column"]), (&json!(20), &json!(27)));
    assert_eq!(objects[0]["source"], "probes: [{program: biosnop}]");
    let github = written(Format::Github);
    let start = "::error file=a%2Cb.yaml,line=2,col=20,endColumn=27,title=E020 no such program::there is no";
    assert!(github.starts_with(start), "{github}");
    assert_eq!(github.lines().count(), 2);
    assert_eq!(escaped("50%\nx"), "50%25%0Ax");
}

#[test]
fn a_line_with_deceptive_characters_is_json_without_them() {
    let text = WRONG.replace("biosnop", "bio\u{202e}snoop");
    let faulty = check_text("a.yaml", &text, &Catalog::embedded(), Overlay::NOTHING).expect("sound");
    let json = faulty.expect("it is wrong").written(Format::Json);
    assert!(json.contains(r"bio\u202esnoop") && !json.contains('\u{202e}'), "{json}");
    let first = json.lines().next().expect("an object");
    let object: serde_json::Value = serde_json::from_str(first).expect("one object");
    assert_eq!((&object["code"], &object["column"]), (&json!("E100"), &json!(23)));
    assert_eq!(object["source"], text.lines().nth(1).expect("a line"));
}

#[test]
fn folders_stand_for_their_files_and_an_empty_one_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("a/b")).expect("a folder");
    fs::create_dir_all(at(".git")).expect("a folder");
    for name in ["a/b/z.yml", "a/b/notes.txt", ".git/x.yaml", "b.yaml", "a.yaml"] {
        fs::write(at(name), "").expect("a file");
    }
    let found = files(&[folder.path().to_owned(), at("a.yaml"), at("none.yaml")]).expect("there are some");
    assert_eq!(found, [at("a/b/z.yml"), at("a.yaml"), at("b.yaml"), at("none.yaml")]);
    let error = files(&[at(".git/.."), at("a")]).map(|_| files(&[at("c")])).expect("there are some");
    assert_eq!(error.expect("it is no folder"), [at("c")]);
    fs::create_dir(at("empty")).expect("a folder");
    assert!(files(&[at("empty")]).expect_err("it is empty").message.contains("no *.yaml"));
}

#[test]
fn the_summary_counts() {
    assert_eq!(summary(0, 0, 1), "no problems in 1 file");
    assert_eq!(summary(1, 1, 14), "1 problem in 1 of 14 files");
    assert_eq!(summary(3, 2, 14), "3 problems in 2 of 14 files");
}
