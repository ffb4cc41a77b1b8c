//! Every rule of the checker: one slip in a file that is right, and what is said about it where.

use super::super::{Diagnostic, parse_flow};

/// A file that is right and has no warnings.
const RIGHT: &str = r#"flow: w
environment: prod
connections:
  db: { kind: postgres, url: "${secret:DB}" }
  lake: { kind: files, root: /data }
  api: { kind: other, settings: { page: 5 } }
pools:
  extract: { limit: 3 }
datasets:
  src: { at: { connection: db, table: public.t }, partition: { key: id, chunks: 10 } }
  mid: { at: { connection: lake, path: "m/{chunk}.{fence}.csv" } }
  end: { at: { connection: db, table: public.e } }
  all: { at: { connection: db, table: public.a } }
jobs:
  extract: { input: src, output: mid, run: { script: e.sh }, connections: [api] }
  load: { input: mid, output: end, run: { script: l.sh } }
  sum: { input: { dataset: end, chunks: all, accept: unvalidated }, output: all, run: { script: s.sh } }
"#;

/// `find` is replaced by `slip`, in which `«` stands where the problem must be seen.
struct Case {
    find: &'static str,
    slip: &'static str,
    says: &'static str,
}

/// A table of slips, one a line: what is replaced `=>` by what, and what must be said of it.
macro_rules! slips {
    ($severity:ident $($find:expr => $slip:expr, $says:expr;)*) => {
        let cases = [$(Case { find: $find, slip: $slip, says: $says }),*];
        check_all(&cases, stringify!($severity) == "errors");
    };
}

/// The changed file and the position of the mark.
fn change(case: &Case) -> (String, u32, u32) {
    assert_eq!(
        RIGHT.matches(case.find).count(),
        1,
        "{:?} is not there once",
        case.find
    );
    let marked = RIGHT.replacen(case.find, case.slip, 1);
    let before = marked.split('«').next().unwrap();
    assert!(before.len() < marked.len(), "{:?} has no mark", case.slip);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (marked.replacen('«', "", 1), line as u32, column as u32)
}

fn printed(problems: &[Diagnostic]) -> String {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    all.join("\n\n")
}

/// Each slip is one problem, at its place, in its words: nothing follows from it that is no news.
fn check_all(cases: &[Case], severity_is_error: bool) {
    let mut failures = Vec::new();
    for case in cases {
        let (text, line, column) = change(case);
        let problems = match parse_flow(&text, "w.yaml") {
            Ok(parsed) if severity_is_error => {
                failures.push(format!(
                    "{:?} was accepted: {:?}",
                    case.slip, parsed.warnings
                ));
                continue;
            }
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        };
        let [problem] = problems.as_slice() else {
            failures.push(format!(
                "{:?} has not one problem:\n{}",
                case.slip,
                printed(&problems)
            ));
            continue;
        };
        let text = problem.to_string();
        let right = (problem.line, problem.column) == (line, column)
            && text.contains(case.says)
            && problem.is_error() == severity_is_error;
        if !right {
            failures.push(format!(
                "{:?}: expected {:?} at {line}:{column}, got\n{text}",
                case.slip, case.says
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

#[test]
fn the_file_without_a_slip_is_right() {
    assert_eq!(parse_flow(RIGHT, "w.yaml").unwrap().warnings, []);
}

#[test]
fn names() {
    slips! { errors
        "flow: w" => "flow: «2w", "cannot name a flow";
        "flow: w" => "flow: «w w", "letters, digits, _ and -";
        "flow: w" => "flow: «\"\"", "is empty";
        "flow: w" => "«flow:", "flow has no value";
        "flow: w" => "flow: «7", "flow is the number 7";
        "flow: w" => "flow: «[w]", "flow is a list";
        "flow: w\nenv" => "«env", "a flow file needs the key \"flow\"";
        "environment: prod" => "environment: «1", "quote it: \"1\"";
        "environment: prod" => "environment: «true", "is the boolean true";
        "environment: prod" => "environment: «a b", "cannot be an environment";
        "  extract: { limit" => "  «\"\": { limit: 1 }\n  extract: { limit", "it is empty";
        "  extract: { limit" => "  «a/b: { limit: 1 }\n  extract: { limit", "holds a /";
        "  extract: { limit" => "  «\"a\\nb\": { limit: 1 }\n  extract: { limit", "control character";
        "  extract: { limit" => "  «\" a\": { limit: 1 }\n  extract: { limit", "ends with a space";
        "  extract: { limit" => "  «-a: { limit: 1 }\n  extract: { limit", "begins with -";
        "  extract: { limit" => "  «..: { limit: 1 }\n  extract: { limit", "a directory's name";
        "  extract: { limit" => "  «5: { limit: 1 }\n  extract: { limit", "a key is the number 5";
    }
}

#[test]
fn keys() {
    slips! { errors
        "environment: prod" => "«enviroment: prod", "did you mean \"environment\"?";
        "script: e.sh }" => "script: e.sh, «cmd: x }", "unknown key \"cmd\" in run";
        "limit: 3" => "«limits: 3, limit: 3", "did you mean \"limit\"?";
        "table: public.e" => "table: public.e, «tabel: x", "did you mean \"table\"?";
        "root: /data" => "root: /data, «url: x", "unknown key \"url\" in a files connection";
        "{ limit: 3 }" => "«3", "pools.extract is the number 3";
    }
}

#[test]
fn a_key_that_stands_twice_is_reported_with_both_positions() {
    slips! { errors
        "  load: {" => "  «extract: {}\n  load: {", "it stands first at w.yaml:15:3";
        "limit: 3" => "limit: 3, «limit: 4", "it stands first at w.yaml:8:14";
        "jobs:" => "«datasets: {}\njobs:", "it stands first at w.yaml:9:1";
    }
}

#[test]
fn missing_keys() {
    slips! { errors
        "api: { kind: other, settings: { page: 5 } }" => "«api: { settings: { page: 5 } }", "kind: one of postgres, files and other";
        "lake: { kind: files, root: /data }" => "«lake: { kind: files }", "needs the key \"root\"";
        "extract: { limit: 3 }" => "«extract: {}", "needs the key \"limit\"";
        "end: { at: { connection: db, table: public.e } }" => "«end: {}", "needs the key \"at\"";
        "run: { script: l.sh }" => "«run: {}", "needs the key \"script\"";
        "output: end, run: { script: l.sh }" => "output: end, «run: ", "run has no value";
        "load: { input: mid, output: end, run: { script: l.sh } }" => "«load: { output: end, run: { script: l.sh } }", "needs the key \"input\"";
        "load: { input: mid, output: end, run: { script: l.sh } }" => "«load: { input: mid, run: { script: l.sh } }", "needs the key \"output\"";
        "load: { input: mid, output: end, run: { script: l.sh } }" => "«load:", "jobs.load has no value";
    }
}

#[test]
fn references() {
    slips! { errors
        "connection: lake" => "connection: «lak", "did you mean \"lake\"?";
        "connections: [api]" => "connections: [api, «dp]", "there is no connection \"dp\"";
        "input: mid" => "input: «midd", "did you mean \"mid\"?";
        "dataset: end" => "dataset: «and", "there is no data set \"and\"";
        "script: l.sh }" => "script: l.sh }, pools: [extract, «exract]", "did you mean \"extract\"?";
        "script: l.sh }" => "script: l.sh }, pools: [sum, «sum]", "stands here twice";
        "script: l.sh }" => "script: l.sh }, labels: [a, «\"a b\"]", "cannot be a label";
        "script: l.sh }" => "script: l.sh }, pools: «extract", "is the text \"extract\"";
    }
}

#[test]
fn connections() {
    slips! { errors
        "kind: postgres" => "kind: «postgre", "did you mean \"postgres\"?";
        "kind: other" => "kind: «7", "is the number 7";
        "{ kind: other, settings: { page: 5 } }" => "«x", "a map such as { kind: postgres";
        "url: \"${secret:DB}\"" => "«url: \"postgres://u:hunter2@h/d\"", "holds a password in plain text";
        "url: \"${secret:DB}\"" => "«url: \"postgres://h/d?password=hunter2\"", "holds a password in plain text";
        "\"${secret:DB}\"" => "«\"mysql://h/d\"", "is no PostgreSQL URL";
        "\"${secret:DB}\"" => "«\"host=h dbname=d\"", "is no PostgreSQL URL";
        "\"${secret:DB}\"" => "«\"${DB}\"", "none of ${secret:NAME}";
        "\"${secret:DB}\"" => "«\"${secret:DB\"", "no closing }";
        "\"${secret:DB}\"" => "«\"${secret:../DB}\"", "not usable";
        "root: /data" => "root: «data", "is not absolute";
        "root: /data" => "root: «/data/../etc", "holds .. or a control character";
        "root: /data" => "root: «\"${secret:ROOT}\"", "may hold ${env:NAME} only";
        "root: /data" => "root: /data, min_free: «lots", "a size such as";
        "root: /data" => "root: /data, min_free: «-5", "a size such as";
        "page: 5" => "«token: hunter2", "write token: \"${secret:TOKEN}\"";
        "page: 5" => "«api-key: 12345", "holds a secret in plain text";
        "page: 5" => "«webhook: \"https://u:hunter2@h/x\"", "holds a password in plain text";
        "page: 5" => "page: «[5]", "is a list";
        "page: 5" => "«page: ", "write \"\" for empty text";
        "page: 5" => "page: «\"${vault:x}\"", "none of ${secret:NAME}";
        "script: l.sh }" => "script: l.sh, env: { «DB_PASSWORD: hunter2 } }", "holds a secret in plain text";
        "script: l.sh }" => "script: l.sh, env: { «ODF_X: y } }", "a worker sets itself";
        "script: l.sh }" => "script: l.sh, env: { «a-b: y } }", "cannot name an environment variable";
        "  lake: {" => "  LAKE: { kind: files, root: /x }\n  «lake: {", "ODF_CONN_LAKE_ROOT";
        "api: { kind: other, settings: { page: 5 } }" => "«api: { kind: other, settings: { page-x: 5, page_X: 5 } }", "same variable ODF_CONN_API_PAGE_X";
    }
}

#[test]
fn no_literal_secret_is_ever_printed() {
    for slip in [
        "url: \"postgres://u:hunter2@h/d\"",
        "url: \"postgres://u:hunter2@h/d\", oops: 1",
        "url: postgres://u:hunter2@h/d, password: [hunter2]",
        "url: \"host=h password=hunter2\", password: hunter2",
        "url: x, settings: { token: hunter2, token: hunter2 }",
        "url: x, url: postgres://u:hunter2@h/d }}",
    ] {
        let text = RIGHT.replace("url: \"${secret:DB}\"", slip);
        let problems = parse_flow(&text, "w.yaml").unwrap_err();
        assert!(
            !printed(&problems).contains("hunter2"),
            "{}",
            printed(&problems)
        );
    }
}

#[test]
fn pools() {
    slips! { errors
        "limit: 3" => "limit: «-1", "from 0 to 1000000, or none";
        "limit: 3" => "limit: «1.5", "a whole number";
        "limit: 3" => "limit: «many", "none is unlimited, 0 runs nothing";
        "limit: 3" => "limit: «1_000", "write 1000";
        "limit: 3" => "limit: «0x10", "write it in plain digits";
        "limit: 3" => "limit: «99999999999999999999", "a whole number";
        "limit: 3" => "«limit: ", "has no value";
    }
}

#[test]
fn places() {
    slips! { errors
        "table: public.e" => "«path: x", "is of kind postgres and has no path";
        "path: \"m/{chunk}.{fence}.csv\"" => "«table: x", "is of kind files and has no table";
        "at: { connection: db, table: public.e }" => "«at: { connection: db }", "needs a table";
        "at: { connection: lake, path: \"m/{chunk}.{fence}.csv\" }" => "«at: { connection: lake }", "needs a path";
        "table: public.e" => "table: «a.b.c", "more than two parts";
        "table: public.e" => "table: «public.", "an empty part";
        "table: public.e" => "table: «public.order lines", "needs quotes";
        "table: public.e" => "table: «'public.\"x'", "a quote without a partner";
        "table: public.e" => "table: «\"a;drop\"", "needs quotes";
        "table: public.e" => "table: «2x", "begins with a digit";
        "\"m/{chunk}.{fence}.csv\"" => "«\"/m/{chunk}\"", "is absolute";
        "\"m/{chunk}.{fence}.csv\"" => "«\"m/../../{chunk}\"", "leads out of it";
        "\"m/{chunk}.{fence}.csv\"" => "«\"m//{chunk}\"", "has an empty part";
        "\"m/{chunk}.{fence}.csv\"" => "«\"m\\\\{chunk}\"", "a backslash";
        "\"m/{chunk}.{fence}.csv\"" => "«\"m/{chunck}.{ordinal}\"", "did you mean \"chunk\"?";
        "\"m/{chunk}.{fence}.csv\"" => "«\"m/{chunk\"", "has no partner";
        "\"m/{chunk}.{fence}.csv\"" => "«\"m/}chunk{\"", "has no partner";
        "\"m/{chunk}.{fence}.csv\"" => "«\"m/{fence}.csv\"", "written to the same file";
        "all: { at: { connection: db, table: public.a } }" => "all: { «at: { connection: db, table: PUBLIC.\"e\" } }", "at the same place as \"end\"";
        "src: { at: { connection: db, table: public.t }, partition: { key: id, chunks: 10 } }" => "src: { at: { connection: lake, path: «\"{fence}\" }, partition: { list: [a] } }", "no {fence}";
    }
}

#[test]
fn partitions() {
    let partition = "partition: { key: id, chunks: 10 }";
    slips! { errors
        "src: { at: { connection: db, table: public.t }, partition: { key: id, chunks: 10 } }" => "«src: { at: { connection: db, table: public.t } }", "partition: { key: primary, chunks: 100 }";
        partition => "partition: «singel", "did you mean \"single\"?";
        partition => "partition: «[a]", "is a list";
        partition => "«partition: {}", "does not say how to cut";
        partition => "«partition: { keys: id, chunks: 3 }", "did you mean \"key\" instead of \"keys\"?";
        partition => "«partition: { key: id, list: [a] }", "not by key and list";
        partition => "«partition: { key: id }", "needs chunks or rows";
        partition => "partition: { key: id, chunks: 1, «rows: 1 }", "chunks or rows, not both";
        partition => "partition: { key: id, chunks: «0 }", "from 1 to 10000000";
        partition => "partition: { key: id, rows: «0 }", "a whole number from 1";
        partition => "partition: { key: id, chunks: «10_000 }", "write 10000";
        partition => "partition: { key: id, rows: «100k }", "write 100000";
        partition => "partition: { key: id, rows: «\"100\" }", "write 100";
        partition => "partition: { key: id, chunks: «1e3 }", "write it in plain digits";
        partition => "partition: { key: «[], chunks: 1 }", "write primary";
        partition => "partition: { key: [a, «a], chunks: 1 }", "stands here twice";
        partition => "partition: { key: «5, chunks: 1 }", "quote it: \"5\"";
        partition => "partition: { list: «[] }", "the list is empty";
        partition => "partition: { list: [a, «a] }", "stands here twice";
        partition => "partition: { list: [a, «\"\"] }", "a value that a script can be given";
        partition => "partition: { list: [a, «~] }", "has no value";
        partition => "partition: { list: «a }", "a list, for example";
        partition => "«partition: { files: \"*.csv\" }", "needs a files connection";
        partition => "partition: { command: «[] }", "the command is empty";
        partition => "partition: { command: [«/bin/sh, -c, x] }", "is absolute";
        partition => "partition: { query: «\"\" }", "is empty";
        "end: { at: { connection: db, table: public.e } }" => "end: { at: { connection: db, table: public.e }, «partition: single }", "makes this data set chunk by chunk from \"mid\"";
        "all: { at: { connection: db, table: public.a } }" => "all: { at: { connection: db, table: public.a }, «partition: { key: id, chunks: 3 } }", "single, a list, windows or a product of these";
    }
    let source = "{ at: { connection: db, table: public.t }, partition: { key: id, chunks: 10 } }";
    slips! { errors
        source => "{ at: { connection: lake }, partition: { files: «../x } }", "leads out of it";
        source => "{ at: { connection: lake }, partition: { files: «\"a***b\" } }", "the pattern cannot be read";
        source => "{ at: { connection: lake, «path: x }, partition: { files: \"*\" } }", "so a path says it twice";
        source => "{ at: { connection: lake, path: x }, «partition: { key: id, rows: 5 } }", "needs a postgres connection";
        source => "{ at: { connection: api }, «partition: { query: select 1 } }", "needs a postgres connection";
    }
}

#[test]
fn a_job_reads_and_writes_one_environment_unless_it_says_otherwise() {
    let text = RIGHT.replace("root: /data }", "root: /data, environment: dev }");
    let problems = parse_flow(&text, "w.yaml").unwrap_err();
    let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(
        messages[0].contains("job \"extract\" reads environment \"prod\""),
        "{messages:?}"
    );
    assert!(messages[0].contains("environments: mixed"), "{messages:?}");
    let mixed = text
        .replace(
            "connections: [api] }",
            "connections: [api], environments: mixed }",
        )
        .replace("script: l.sh } }", "script: l.sh }, environments: mixed }");
    parse_flow(&mixed, "w.yaml").unwrap();
}

#[test]
fn buffers_and_keeping() {
    let mid = "{fence}.csv\" } }";
    let end = "end: { at: { connection: db, table: public.e } }";
    let source = "partition: { key: id, chunks: 10 }";
    slips! { errors
        mid => "{fence}.csv\" }, buffer: { chunks: «0 } }", "from 1";
        mid => "{fence}.csv\" }, buffer: { bytes: «0 } }", "stops its job for ever";
        mid => "{fence}.csv\" }, buffer: { bytes: «2 parsecs } }", "a size such as";
        end => "end: { at: { connection: db, table: public.e }, keep: «for_ever }", "did you mean \"forever\"?";
        end => "end: { at: { connection: db, table: public.e }, keep: «7 }", "a duration such as 7d";
        end => "end: { at: { connection: db, table: public.e }, keep: «10ms }", "at least 1s";
        end => "end: { at: { connection: db, table: public.e }, «buffer: { chunks: 3 } }", "job \"sum\" waits for all of them";
        "table: public.a }" => "table: public.a }, «buffer: { chunks: 3 }", "no job reads \"all\"";
        source => "partition: single, keep: «7d", "nothing of it may be removed";
        source => "partition: single, «buffer: { chunks: 3 }", "there is nothing to stop";
    }
}

#[test]
fn jobs() {
    slips! { errors
        "input: mid" => "input: [«end]", "which it makes itself";
        "input: mid" => "input: [mid, «mid]", "stands here twice";
        "input: mid" => "input: «[]", "at least one";
        "input: mid" => "input: [mid, «5]", "jobs.load.input[1] is the number 5";
        "chunks: all, accept" => "chunks: «some, accept", "one of all, same, windows and previous";
        "accept: unvalidated }" => "accept: «anything }", "unvalidated";
        "run: { script: l.sh }" => "run: { script: l.sh }, environments: «both", "one of same and mixed";
        "script: l.sh" => "script: «/bin/sh", "is absolute";
        "script: l.sh" => "script: «../l.sh", "leads out of it with ..";
        "script: l.sh" => "script: «~/l.sh", "begins with ~";
        "run: { script: l.sh }" => "run: «l.sh", "a map with the keys script, args and env";
        "script: l.sh" => "script: l.sh, args: [a, «\"${secret:X}\"]", "not resolved in arguments";
        "script: l.sh" => "script: l.sh, args: «a", "a list";
        "run: { script: l.sh }" => "run: { script: l.sh }, approve: «yes", "write true";
        "run: { script: l.sh }" => "run: { script: l.sh }, priority: «high", "a whole number";
        "run: { script: l.sh }" => "run: { script: l.sh }, timeout: «30", "give it a unit: 30s";
        "run: { script: l.sh }" => "run: { script: l.sh }, timeout: «2 hourz", "units are ms, s, m, h, d and w";
        "run: { script: l.sh }" => "run: { script: l.sh }, timeout: «0s", "at least 1s";
        "run: { script: l.sh }" => "run: { script: l.sh }, timeout: «1500ms", "whole seconds";
        "run: { script: l.sh }" => "run: { script: l.sh }, silence: «4s", "at least 5s";
        "run: { script: l.sh }" => "run: { script: l.sh }, retry: { attempts: «0 }", "from 1 to 1000";
        "run: { script: l.sh }" => "run: { script: l.sh }, retry: { backoff: «0s }", "longer than nothing";
        "run: { script: l.sh }" => "run: { script: l.sh }, retry: { max_backoff: «1s }", "shorter than the first (10s)";
        "run: { script: l.sh }" => "run: { script: l.sh }, retry: { backoff: «1h }", "the longest delay (10m)";
        "run: { script: l.sh }" => "run: { script: l.sh }, retry: «5", "retry is the number 5";
    }
}

#[test]
fn warnings() {
    slips! { warnings
        "  extract: { limit: 3 }" => "  extract: { limit: 3 }\n  «laod: { limit: 1 }", "did you mean \"load\"?";
        "  api: {" => "  «old: { kind: other }\n  api: {", "nothing uses the connection \"old\"";
        "  all: {" => "  «x: { at: { connection: db, table: x }, partition: single }\n  all: {", "no job uses the data set \"x\"";
        "table: public.a }" => "table: public.a }, keep: «until_consumed", "removed as soon as it is made";
    }
}
