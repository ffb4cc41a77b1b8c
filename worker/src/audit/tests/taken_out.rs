//! Rejects: rows that break a rule of rows leave the file, up to a cap, and none is lost.

use common::domain::{Bounds, Severity};
use common::flow::rules::{Check, RejectCap, Rejects, Rule};

use super::{Staged, exists, found, gz};

const TEXT: &[u8] = b"id,name\n1,a\n2,\n3,c\n,d\n5,e";

fn staged(name: &str, bytes: &[u8], max: RejectCap) -> Staged {
    let mut staged =
        Staged::new(name, bytes).rule(Check::NotNull(vec!["id".into(), "name".into()]));
    staged.checks.rejects = Some(Rejects { max, path: None });
    staged.reported.rows = Some(5);
    staged.bounds = Bounds::Single;
    staged
}

#[test]
fn rows_that_break_a_rule_go_beside_the_file() {
    let staged = staged("o.csv", TEXT, RejectCap::Rows(2));
    let audited = staged.audit();
    assert!(
        audited.rules.iter().all(|rule| rule.ok),
        "{:?}",
        audited.rules
    );
    assert_eq!((audited.rows, audited.rejected), (Some(3), Some(2)));
    assert_eq!(
        found(&audited.rules, "rejects"),
        "2 of 5 rows break a rule of rows"
    );
    assert_eq!(found(&audited.rules, "rows_reported"), "5 rows");
    assert_eq!(
        std::fs::read(&staged.path).unwrap(),
        b"id,name\n1,a\n3,c\n5,e\n"
    );
    assert_eq!(
        exists(&staged.path, ".rejects").unwrap(),
        b"id,name\n2,\n,d\n"
    );
    assert_eq!(exists(&staged.path, ".kept"), None);
    // What is published is what was judged.
    let clean = Staged::new("o.csv", b"id,name\n5,e\n3,c\n1,a\n").audit();
    assert_eq!(audited.row_sum, clean.row_sum);
}

#[test]
fn packed_files_and_json_lines_are_split_as_well() {
    let packed = staged("o.csv.gz", &gz(TEXT), RejectCap::Percent("40".into()));
    assert_eq!(packed.audit().rejected, Some(2));
    let rejects = exists(&packed.path, ".rejects").unwrap();
    let rows = Staged::new("r.csv.gz", &rejects).audit().rows;
    assert_eq!(rows, Some(2));
    let lines = b"{\"id\":1,\"name\":\"a\"}\n{\"id\":2}\n{\"id\":3,\"name\":\"c\"}\n{\"name\":\"d\"}\n{\"id\":5,\"name\":\"e\"}\n";
    let lines = staged("o.jsonl", lines, RejectCap::Rows(2));
    assert_eq!(lines.audit().rejected, Some(2));
    assert_eq!(
        exists(&lines.path, ".rejects").unwrap(),
        b"{\"id\":2}\n{\"name\":\"d\"}\n"
    );
}

#[test]
fn more_than_the_cap_is_a_failure_that_changes_nothing() {
    for cap in [RejectCap::Rows(1), RejectCap::Percent("39.9".into())] {
        let staged = staged("o.csv", TEXT, cap);
        let broken: Vec<String> = staged.broken().into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(broken, ["not_null(id, name)", "rejects"]);
        assert_eq!(std::fs::read(&staged.path).unwrap(), TEXT);
        assert_eq!(exists(&staged.path, ".rejects"), None);
    }
}

#[test]
fn a_rule_that_only_warns_rejects_nothing() {
    let mut staged = staged("o.csv", TEXT, RejectCap::Rows(2));
    staged.checks.validate = vec![Rule {
        check: Check::NotNull(vec!["name".into()]),
        severity: Severity::Warn,
    }];
    let audited = staged.audit();
    assert_eq!((audited.rows, audited.rejected), (Some(5), Some(0)));
    assert!(
        audited
            .rules
            .iter()
            .any(|rule| !rule.ok && rule.severity == Severity::Warn)
    );
}

#[test]
fn other_figures_are_those_of_the_rows_that_stay() {
    let text = b"id,name\n1,a\n1,\n2,b\n";
    let mut staged = Staged::new("o.csv", text)
        .rule(Check::NotNull(vec!["name".into()]))
        .rule(Check::Unique(vec!["id".into()]));
    staged.checks.rejects = Some(Rejects {
        max: RejectCap::Rows(1),
        path: None,
    });
    assert_eq!(staged.broken(), []);
}
