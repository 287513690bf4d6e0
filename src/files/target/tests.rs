use super::*;
use crate::output::SinkFormat;

fn sink(path: &Path) -> SinkPlan {
    let shape = SinkFormat::Jsonl { fields: None };
    SinkPlan { name: "s".into(), path: path.display().to_string(), probe: None, shape, files: FilesPlan::default() }
}

fn open(path: &Path) -> Result<Vec<OpenTarget>> {
    open_all(&[sink(path)], &Arc::default(), &[], &|words| panic!("{words}"))
}

#[test]
fn two_sinks_in_one_file_are_found_under_any_names() {
    let folder = tempfile::tempdir().expect("a directory");
    let sinks = [sink(&folder.path().join("x")), sink(&folder.path().join("./x"))];
    let error = open_all(&sinks, &Arc::default(), &[], &|_| ()).expect_err("they are the same");
    assert!(error.message.contains("the same file"), "{error}");
    let mut rotated = sink(&folder.path().join("x.csv"));
    rotated.files.rotate_size = Some(1);
    rotated.files.compress = Some(Compress::Gzip);
    for name in ["x.csv", "x.0001.csv", "x.0007.csv", "x.0002.csv.gz", "x.csv.gz"] {
        for sinks in
            [[rotated.clone(), sink(&folder.path().join(name))], [sink(&folder.path().join(name)), rotated.clone()]]
        {
            let error = open_all(&sinks, &Arc::default(), &[], &|_| ()).expect_err(name);
            assert!(error.message.contains("the same file"), "{error}");
        }
    }
    let others = [rotated, sink(&folder.path().join("x.0001.csv.zst")), sink(&folder.path().join("x.01.csv"))];
    open_all(&others, &Arc::default(), &[], &|_| ()).expect("they are other files");
    let apart = [sink(Path::new("/dev/null")), sink(Path::new("/dev/null"))];
    open_all(&apart, &Arc::default(), &[], &|_| ()).expect("a device is no file");
}

#[test]
fn links_and_missing_directories_are_refused_with_a_message() {
    let folder = tempfile::tempdir().expect("a directory");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/tmp/elsewhere", &link).expect("a link");
    assert!(open(&link).unwrap_err().message.contains("symbolic link"));
    let missing = folder.path().join("no/such/file");
    assert!(open(&missing).unwrap_err().message.contains("no directory"));
    assert!(open(folder.path()).unwrap_err().message.contains("directory"));
    assert!(open(Path::new("/dev/null")).expect("a device is fine")[0].files.is_none());
    assert!(open(Path::new("/dev/stdout")).expect("it is a name of our own")[0].is_stdout());
}

#[test]
fn a_start_that_fails_leaves_nothing_and_the_old_file_as_it_was() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("io.jsonl");
    std::fs::write(&path, "the last capture\n").expect("written");
    drop(open(&path).expect("it opens"));
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "the last capture\n");
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1);
}
