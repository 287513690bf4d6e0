use super::*;

#[test]
fn programs_and_configs_are_distinguished() {
    let catalog = Catalog::embedded();
    let split = |text| split(text, &catalog);
    assert_eq!(split("biosnoop"), (DescribeSubject::Program("biosnoop"), None));
    assert_eq!(split("biosnoop.op"), (DescribeSubject::Program("biosnoop"), Some("op")));
    assert_eq!(split("io-latency"), (DescribeSubject::Config("io-latency"), None));
    assert_eq!(split("io-latency.op"), (DescribeSubject::Config("io-latency"), Some("op")));
    assert_eq!(
        split("execsnoop"),
        (DescribeSubject::Program("execsnoop"), None),
        "the config of that name has its fields"
    );
    assert_eq!(split("a.b/c.yaml"), (DescribeSubject::Config("a.b/c.yaml"), None));
    assert_eq!(split("a.b/c.yml.labels.team"), (DescribeSubject::Config("a.b/c.yml"), Some("labels.team")));
    assert_eq!(split("c.yaml."), (DescribeSubject::Config("c.yaml"), Some("")));
}
