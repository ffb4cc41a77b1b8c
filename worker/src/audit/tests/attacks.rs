//! Each way in which `exit 0` is not "done": files cut short, damaged, swapped, or of other rows than
//! was said. Real bytes, and the rule that must find each of them.

use common::domain::Bounds;
use common::flow::rules::{Check, RowCount};

use super::super::probe::InputRows;
use super::{Staged, gz, key_range, orders, zst};

#[test]
fn a_packed_file_that_is_cut_anywhere_is_found() {
    let text = orders(2000);
    for (name, packed) in [("o.csv.gz", gz(&text)), ("o.csv.zst", zst(&text))] {
        assert_eq!(Staged::new(name, &packed).broken(), []);
        let cuts = [
            0,
            1,
            5,
            packed.len() / 3,
            packed.len() / 2,
            packed.len() - 9,
            packed.len() - 1,
        ];
        for cut in cuts {
            let broken = Staged::new(name, &packed[..cut]).broken();
            assert_eq!(broken.len(), 1, "{name} cut at {cut}: {broken:?}");
            assert_eq!(broken[0].0, format!("parses({})", &name[2..]));
        }
        let mut more = packed.clone();
        more.extend_from_slice(b"junk after the end");
        assert_eq!(Staged::new(name, &more).broken().len(), 1, "{name}");
        // Several members or frames are one file, as `cat a.gz b.gz` makes them.
        let more = [
            packed.clone(),
            if name.ends_with("gz") {
                gz(b"2001,x\n")
            } else {
                zst(b"2001,x\n")
            },
        ];
        assert_eq!(Staged::new(name, &more.concat()).audit().rows, Some(2001));
    }
}

#[test]
fn a_flipped_byte_in_a_gzip_file_is_found() {
    let packed = gz(&orders(2000));
    for at in [20, packed.len() / 2, packed.len() - 6, packed.len() - 2] {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x10;
        assert!(
            !Staged::new("o.csv.gz", &damaged).broken().is_empty(),
            "byte {at}"
        );
    }
}

#[test]
fn a_csv_that_is_cut_is_found_by_its_shape_or_by_what_was_reported() {
    let text = orders(100);
    // In the middle of a row, where a field is missing.
    let cut = text.len() - "100,order 100\n".len() + 3;
    Staged::new("o.csv", &text[..cut]).assert_broken("parses(csv)", "has 1 fields, expected 2");
    // At the end of a row: still csv, and fewer rows than were reported.
    let cut = text.len() - "100,order 100\n".len();
    let staged = Staged::new("o.csv", &text[..cut]);
    assert_eq!(staged.broken(), []);
    staged
        .reporting(100)
        .assert_broken("rows_reported", "99 rows");
    // In the last field: only the bytes tell.
    let mut staged = Staged::new("o.csv", &text[..text.len() - 2]);
    staged.reported.bytes = Some(text.len() as u64);
    staged.assert_broken("bytes_reported", &format!("{} bytes", text.len() - 2));
    // Inside of quotes.
    Staged::new("o.csv", b"a,b\n1,\"two\nlines")
        .assert_broken("parses(csv)", "inside of a quoted field");
    // Nothing at all, as a full disk or a redirection leaves it.
    Staged::new("o.csv", b"").assert_broken("parses(csv)", "the file is empty");
}

#[test]
fn a_pipe_whose_first_program_died_is_found() {
    // psql | gzip: half of the rows, and a gzip file that is valid to its last byte.
    let half = gz(&orders(500));
    let staged = Staged::new("o.csv.gz", &half);
    assert_eq!(staged.broken(), [], "by itself it is a good file");
    staged
        .reporting(1000)
        .assert_broken("rows_reported", "500 rows");
    let count = |ratio: Option<(&str, &str)>| {
        Check::RowCount(RowCount::Input {
            dataset: None,
            ratio: ratio.map(|(low, high)| (low.to_owned(), high.to_owned())),
        })
    };
    let input = |rows| InputRows {
        dataset: "orders".to_owned(),
        rows,
        source: "as published",
    };
    let mut staged = Staged::new("o.csv.gz", &half).rule(count(None));
    staged.inputs = vec![input(Ok(1000))];
    staged.assert_broken("row_count(input)", "500 rows");
    staged.inputs = vec![input(Ok(500))];
    assert_eq!(staged.broken(), []);
    staged.inputs = vec![input(Err("it was never counted".to_owned()))];
    staged.assert_broken("row_count(input)", "it was never counted");
    let mut staged = Staged::new("o.csv.gz", &half).rule(count(Some(("0.99", "1.0"))));
    staged.inputs = vec![input(Ok(505))];
    assert_eq!(staged.broken(), []);
    staged.inputs = vec![input(Ok(506))];
    staged.assert_broken("row_count(0.99 to 1.0 of input)", "500 rows");
    staged.inputs = vec![input(Ok(499))];
    staged.assert_broken("row_count(0.99 to 1.0 of input)", "500 rows");
}

#[test]
fn what_was_reported_is_recounted() {
    let text = orders(3);
    let mut staged = Staged::new("o.csv", &text);
    staged.reported.rows = Some(3);
    staged.reported.bytes = Some(text.len() as u64);
    let sum = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&text));
    staged.reported.checksum = Some(format!("sha256:{}", sum.to_uppercase()));
    assert_eq!(staged.broken(), []);
    assert_eq!(staged.audit().bytes.sha256, sum);
    staged.reported.checksum = Some("md5:abc".to_owned());
    assert_eq!(
        staged.broken(),
        [],
        "another algorithm's sum is not ours to judge"
    );
    staged.reported.checksum = Some("sha256:00".to_owned());
    staged.assert_broken("checksum_reported", &sum);
    // A file whose header was taken for a row, or the other way round, is told apart from a loss.
    Staged::new("o.csv", b"1,a\n2,b\n")
        .reporting(2)
        .assert_broken("rows_reported", "header: false");
    assert_eq!(
        Staged::new("o.csv", b"1,a\n2,b\n")
            .headerless()
            .reporting(2)
            .broken(),
        []
    );
}

#[test]
fn the_rows_of_another_chunk_are_found() {
    for (kind, lower, upper, inside, outside) in [
        ("bigint", "10", "100", "10,x\n99,y\n", "9,x\n"),
        ("bigint", "10", "100", "50,x\n", "100,x\n"),
        (
            "numeric(12,2)",
            "1.50",
            "2.5",
            "1.5,x\n2.499,x\n",
            "2.50,x\n",
        ),
        (
            "date",
            "2024-01-01",
            "2024-02-01",
            "2024-01-31,x\n",
            "2024-02-01,x\n",
        ),
        (
            "timestamp without time zone",
            "2024-01-01 00:00:00",
            "2024-01-01 12:00:00",
            "2024-01-01T11:59:59.9,x\n",
            "2024-01-01 12:00:00,x\n",
        ),
        (
            "timestamp with time zone",
            "2024-01-01 00:00:00+00",
            "2024-01-01 12:00:00+00",
            "2024-01-01 13:00:00+02,x\n",
            "2024-01-01 13:00:00+00,x\n",
        ),
        (
            "uuid",
            "40000000-0000-0000-0000-000000000000",
            "80000000-0000-0000-0000-000000000000",
            "7fffffff-ffff-ffff-ffff-ffffffffffff,x\n",
            "80000000-0000-0000-0000-000000000000,x\n",
        ),
    ] {
        let staged = |rows: &str| {
            let mut staged = Staged::new("o.csv", format!("id,name\n{rows}").as_bytes());
            staged.bounds = key_range("id", kind, Some(lower), Some(upper));
            staged
        };
        assert_eq!(staged(inside).broken(), [], "{kind}");
        staged(outside).assert_broken("in_bounds(id)", "1 row break it, first row 1: key");
        staged(",x\n").assert_broken("in_bounds(id)", "NULL");
    }
}

#[test]
fn keys_of_several_columns_and_text_are_compared_as_the_plan_does() {
    let mut columns = match key_range("a", "bigint", None, None) {
        Bounds::KeyRange { columns, .. } => columns,
        _ => Vec::new(),
    };
    let mut second = columns[0].clone();
    second.name = "b".to_owned();
    second.sql_type = "text".to_owned();
    second.collation = Some("pg_catalog.\"C\"".to_owned());
    columns.push(second);
    let bounds = |columns: &Vec<_>| Bounds::KeyRange {
        columns: columns.clone(),
        lower: Some(vec!["1".to_owned(), "m".to_owned()]),
        upper: Some(vec!["3".to_owned(), "m".to_owned()]),
    };
    let staged = |rows: &str, bounds: Bounds| {
        let mut staged = Staged::new("o.csv", format!("a,b\n{rows}").as_bytes());
        staged.bounds = bounds;
        staged
    };
    assert_eq!(
        staged("1,m\n2,\u{e9}\n3,Z\n", bounds(&columns)).broken(),
        []
    );
    staged("1,l\n", bounds(&columns)).assert_broken("in_bounds(a, b)", "key 1, l");
    staged("3,m\n", bounds(&columns)).assert_broken("in_bounds(a, b)", "key 3, m");
    // Under a language's rules we do not pretend to know the order.
    columns[1].collation = Some("\"en_US\"".to_owned());
    let waived = staged("3,m\n", bounds(&columns)).audit();
    let rule = waived
        .rules
        .iter()
        .find(|rule| rule.rule == "in_bounds(a, b)")
        .unwrap();
    assert!(
        rule.ok && rule.found.starts_with("not looked at"),
        "{rule:?}"
    );
    // The chunk of rows without a key takes nothing else.
    let null = Bounds::NullKeys { columns };
    assert_eq!(staged("1,\n,x\n", null.clone()).broken(), []);
    staged("1,x\n", null).assert_broken("in_bounds(a, b)", "no part of its key is NULL");
}

#[test]
fn a_file_without_its_key_says_that_nothing_was_looked_at() {
    let mut staged = Staged::new("o.csv", b"name\nx\n");
    staged.bounds = key_range("id", "bigint", Some("1"), None);
    let audited = staged.audit();
    let rule = audited
        .rules
        .iter()
        .find(|rule| rule.rule == "in_bounds(id)")
        .unwrap();
    assert!(
        rule.ok && rule.found.contains("no column \"id\""),
        "{rule:?}"
    );
}

#[test]
fn json_lines_are_read_one_by_one() {
    let good = b"{\"id\":1,\"name\":\"a\"}\n{\"name\":null,\"id\":2}\n";
    assert_eq!(Staged::new("o.jsonl", good).audit().rows, Some(2));
    assert_eq!(Staged::new("o.jsonl", b"").audit().rows, Some(0));
    for (text, says) in [
        (&b"{\"id\":1}\n{\"id\":2"[..], "line 2 is no JSON value"),
        (b"{\"id\":1}\n\n{\"id\":2}\n", "line 2 is no JSON value"),
        (b"{\"id\":1} {\"id\":2}\n", "line 1 is no JSON value"),
        (b"{\"id\":1,\"id\":2}\n", "stands there twice"),
        (b"{\"id\":\"\xff\"}\n", "line 1 is no JSON value"),
    ] {
        Staged::new("o.jsonl", text).assert_broken("parses(jsonl)", says);
    }
    let cut = gz(good);
    Staged::new("o.jsonl.gz", &cut[..cut.len() - 3]).assert_broken("parses(jsonl.gz)", "cut off");
}

#[test]
fn csv_is_read_strictly() {
    for (text, says) in [
        (&b"a,b\n1,2,3\n"[..], "line 2 has 3 fields, expected 2"),
        (b"a,b\n1\n", "line 2 has 1 fields, expected 2"),
        (b"a,b\n1,2\n\n", "line 3 has 1 fields, expected 2"),
        (b"a,b\n\"1\"x,2\n", "follows the closing quote"),
        (b"a,b\n1x\"y\",2\n", "not quoted"),
        (b"a,a\n1,2\n", "twice"),
        (b"a,b\n\"1\nx,2\n", "inside of a quoted field"),
    ] {
        Staged::new("o.csv", text).assert_broken("parses(csv)", says);
    }
    let fine = b"\xef\xbb\xbfa,b\r\n\"x \"\"y\"\"\",\"two\r\nlines\"\r\n,\"\"\r\n1,2";
    let audited = Staged::new("o.csv", fine).audit();
    assert_eq!(audited.rows, Some(3));
    assert!(super::found(&audited.rules, "parses(csv)").contains("no line end after the last"));
    // A blank line of one column is a row whose value is NULL, not no row.
    assert_eq!(Staged::new("o.csv", b"a\n1\n\n2\n").audit().rows, Some(3));
}

#[test]
fn a_file_of_no_known_format_has_only_its_bytes() {
    let mut staged = Staged::new("o.dat", b"whatever");
    let audited = staged.audit();
    assert_eq!((audited.rows, audited.rules.len()), (None, 0));
    staged.reported.bytes = Some(9);
    staged.assert_broken("bytes_reported", "8 bytes");
}
