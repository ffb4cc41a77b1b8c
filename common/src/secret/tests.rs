//! References, their sources, and the hiding of what they resolve to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};

use super::*;

fn source(variables: &[(&str, &str)]) -> SecretSource {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    SecretSource::from_variables(variables.iter().map(own))
}

fn shown(text: &str, source: &SecretSource) -> Result<String, String> {
    resolve(text, source)
        .map(|value| value.expose_secret().to_owned())
        .map_err(|error| error.to_string())
}

fn write_file(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a program and returns the command that runs it. The shell reads it: a file that was
/// just written cannot be executed while a fork of another test still holds it open.
fn write_program(path: &Path, script: &str) -> String {
    write_file(path, script, 0o600);
    format!("/bin/sh {}", path.display())
}

#[test]
fn references_are_found_and_the_escape_is_none() {
    let text = "a ${secret:DB-PW.1} $x $${secret:NO} ${env:HOME}${file:/run/pw}";
    let expected = [
        Reference::Secret("DB-PW.1".into()),
        Reference::Env("HOME".into()),
        Reference::File("/run/pw".into()),
    ];
    assert_eq!(references(text).unwrap(), expected);
    assert!(!holds_reference("$${secret:NO} costs 5$"));
}

#[test]
fn a_malformed_reference_is_refused_without_repeating_it() {
    let wrong = [
        "${hunter2",
        "${hunter2}",
        "${vault:hunter2}",
        "${secret:}",
        "${secret:../hunter2}",
        "${secret:.hunter2}",
        "${env:hunter2-x}",
        "${env:2}",
        "${file:hunter2}",
        "${}",
    ];
    for text in wrong {
        let error = references(text).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{text} -> {error}");
    }
}

#[test]
fn a_text_is_resolved_and_its_escapes_unfolded() {
    let source = source(&[("PW", "s3cr3t"), ("HOST", "db")]);
    let text = "postgres://u:${secret:PW}@${env:HOST}/d $${secret:PW} $$$";
    assert_eq!(
        shown(text, &source).unwrap(),
        "postgres://u:s3cr3t@db/d ${secret:PW} $$$"
    );
}

#[test]
fn the_environment_comes_before_the_directory_and_that_before_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("ask");
    let command = write_program(&program, "echo \"$1 says $2\"");
    write_file(&directory.path().join("BOTH"), "from file\n", 0o600);
    write_file(&directory.path().join("FILE"), "from file\n\n", 0o600);
    let command = format!("{command} vault");
    let source = source(&[("BOTH", "from env")])
        .with_directory(directory.path())
        .with_command(&command);
    assert_eq!(shown("${secret:BOTH}", &source).unwrap(), "from env");
    let one_newline_goes = "from file\n";
    assert_eq!(shown("${secret:FILE}", &source).unwrap(), one_newline_goes);
    assert_eq!(shown("${secret:X-1}", &source).unwrap(), "vault says X-1");
}

#[test]
fn a_missing_secret_says_where_it_was_looked_for() {
    let error = shown("${secret:PW}", &source(&[])).unwrap_err();
    let expected = "there is no ${secret:PW}: looked in the environment variable PW, \
                    no directory ($ODF_SECRETS_DIR is not set), \
                    no command ($ODF_SECRET_COMMAND is not set)";
    assert_eq!(error, expected);
    let error = shown("${file:/nowhere/pw}", &source(&[])).unwrap_err();
    assert!(error.contains("the file /nowhere/pw"), "{error}");
}

#[test]
fn an_empty_secret_is_an_error_and_an_empty_variable_is_not() {
    let source = source(&[("PW", "")]);
    assert!(
        shown("${secret:PW}", &source)
            .unwrap_err()
            .contains("is empty")
    );
    assert_eq!(shown("[${env:PW}]", &source).unwrap(), "[]");
}

#[test]
fn a_file_that_all_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("PW");
    let source = source(&[]).with_directory(directory.path());
    for mode in [0o644, 0o604, 0o602] {
        write_file(&path, "hunter2", mode);
        let error = shown("${secret:PW}", &source).unwrap_err();
        assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
        assert!(error.contains("chmod 0600"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let by_path = format!("${{file:{}}}", path.display());
        assert!(shown(&by_path, &source).is_err());
    }
    write_file(&path, "hunter2", 0o640);
    assert_eq!(shown("${secret:PW}", &source).unwrap(), "hunter2");
}

#[test]
fn a_directory_or_binary_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("DIR")).unwrap();
    fs::write(directory.path().join("BIN"), b"hunter2\xff").unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(directory.path().join("BIN"), mode).unwrap();
    let source = source(&[]).with_directory(directory.path());
    assert!(
        shown("${secret:DIR}", &source)
            .unwrap_err()
            .contains("it is no file")
    );
    let error = shown("${secret:BIN}", &source).unwrap_err();
    assert!(
        error.contains("not UTF-8") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn a_failing_command_is_reported_without_its_output() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("ask");
    let command = write_program(&program, "echo hunter2; echo hunter2 >&2; exit 3");
    let asking = source(&[]).with_command(&command);
    let error = shown("${secret:PW}", &asking).unwrap_err();
    assert!(error.contains("ended with exit code 3"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let missing = source(&[]).with_command("/nowhere/ask");
    assert!(
        shown("${secret:PW}", &missing)
            .unwrap_err()
            .contains("cannot be started")
    );
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("ask");
    let pid_file = directory.path().join("pid");
    // The child keeps the pipe open, so only killing the group ends the reading.
    let command = write_program(
        &program,
        &format!("sleep 600 & echo $! > {}; wait", pid_file.display()),
    );
    let source = source(&[])
        .with_command(&command)
        .with_command_limit(Duration::from_secs(2));
    let error = shown("${secret:PW}", &source).unwrap_err();
    assert!(error.contains("gave no answer within 2 s"), "{error}");
    let child = fs::read_to_string(&pid_file).unwrap();
    let status = format!("/proc/{}/status", child.trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    let gone = || fs::read_to_string(&status).map_or(true, |status| status.contains("State:\tZ"));
    while !gone() {
        assert!(
            Instant::now() < deadline,
            "the child of the command lives on"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_password_is_encoded_into_a_url_and_a_whole_url_is_not() {
    let source = source(&[
        ("PW", "p@ss/w:rd?"),
        ("URL", "postgres://u:p%40@h/d"),
        ("HOST", "db:5433"),
    ]);
    let resolved = resolve_url("postgres://u:${secret:PW}@${env:HOST}/d", &source).unwrap();
    let url = "postgres://u:p%40ss%2Fw%3Ard%3F@db:5433/d";
    assert_eq!(resolved.value.expose_secret(), url);
    assert_eq!(resolved.secrets.len(), 1);
    let whole = resolve_url("${secret:URL}", &source).unwrap();
    assert_eq!(whole.value.expose_secret(), "postgres://u:p%40@h/d");
    assert!(!format!("{resolved:?}").contains("p@ss"));
}

#[test]
fn values_are_hidden_in_every_form_in_which_they_show_up() {
    let mut redactor = Redactor::new([&SecretString::from("p@ss\"word".to_owned())]);
    let url = SecretString::from("postgres://app:t%C3%BCr!3@db/x".to_owned());
    redactor.hide(&url);
    let text = "p@ss\"word p%40ss%22word p%40ss%22WORD {\"a\":\"p@ss\\\"word\"} \
                postgres://app:t%C3%BCr!3@db/x t%C3%BCr!3 tür!3 app db";
    let expected = "*** *** p%40ss%22WORD {\"a\":\"***\"} *** *** *** app db";
    assert_eq!(redactor.redact(text), expected);
    assert!(!format!("{redactor:?}").contains("p@ss"));
}

#[test]
fn short_values_stay_and_overlapping_ones_are_hidden_as_a_whole() {
    let secrets = ["abc", "1234", "3456", "12345678"].map(|s| SecretString::from(s.to_owned()));
    let redactor = Redactor::new(&secrets);
    assert_eq!(
        redactor.redact("abc 123456 12345678 1234567"),
        "abc *** *** ***7"
    );
}

#[test]
fn a_stream_is_shown_as_soon_as_it_is_decided() {
    let redactor = Redactor::new([&SecretString::from("secret".to_owned())]);
    let mut stream = redactor.stream();
    assert_eq!(stream.push(b"a line\n"), b"a line\n");
    assert_eq!(stream.push(b"the sec"), b"the ");
    assert_eq!(stream.push(b"ond"), b"second");
    assert_eq!(stream.push(b" secre"), b" ");
    assert_eq!(stream.push(b"t!"), b"***!");
    assert_eq!(stream.push(b"sec"), b"");
    assert_eq!(stream.finish(), b"sec");
}

#[test]
fn a_resolved_url_teaches_the_redactor_its_password() {
    let source = source(&[("PW", "s3cr3t/x")]);
    let resolved = resolve_url("postgres://u:${secret:PW}@h/d", &source).unwrap();
    let mut redactor = Redactor::default();
    redactor.hide_resolved(&resolved);
    assert_eq!(redactor.redact("s3cr3t/x and s3cr3t%2Fx"), "*** and ***");
}

#[test]
fn names_of_secrets_are_told_by_their_last_word() {
    for name in [
        "password",
        "DB_PASSWORD",
        "api.token",
        "clientSecret",
        "api-key",
        "apiKey",
        "APIKEY",
        "aws_secret_access_key",
        "accessToken",
        "pwd",
    ] {
        assert!(names_a_secret(name), "{name}");
    }
    for name in [
        "token_url",
        "password_file",
        "key",
        "primary_key",
        "aws_access_key_id",
        "tokens_per_page",
        "",
        "secretary",
        "_",
    ] {
        assert!(!names_a_secret(name), "{name}");
    }
}

#[test]
fn passwords_in_urls_are_found_unless_they_are_references() {
    let found = literal_url_password;
    assert_eq!(found("postgres://u:hunter2@h/d"), Some("hunter2"));
    assert_eq!(found("postgres://u:hun@ter/2@h/d"), Some("hun"));
    assert_eq!(found("postgres://u:hun/ter2@h/d"), Some("hun/ter2"));
    assert_eq!(
        found("postgres://h/d?user=u&password=hunter2&x=1"),
        Some("hunter2")
    );
    assert_eq!(found("postgres://h/d?sslpassword=hunter2"), Some("hunter2"));
    assert_eq!(found("postgres://${secret:U}:hunter2@h/d"), Some("hunter2"));
    assert_eq!(
        found("postgres://u:x${secret:PW}@h/d"),
        Some("x${secret:PW}")
    );
    for clean in [
        "postgres://u@h:5432/d",
        "postgres://h/d",
        "postgres://u:${secret:PW}@h:5432/d",
        "${secret:URL}",
        "postgres://${secret:U}@h/d",
        "postgres://u:@h/d",
        "no url: a@b",
        "postgres://h/d?password=${secret:PW}&sslmode=verify-full",
        "https://h/?q=a:b",
        "https://h:8080/@scope/x",
    ] {
        assert_eq!(found(clean), None, "{clean}");
    }
}

fn masked(line: &str) -> String {
    mask_literals(line).into_iter().map(|(_, c)| c).collect()
}

#[test]
fn written_out_secrets_are_masked_in_lines_and_references_are_not() {
    let cases = [
        ("url: postgres://u:hunter2@h/d", "url: postgres://u:***@h/d"),
        ("{ password: hunter2, a: b }", "{ password: ***, a: b }"),
        ("{ password: hunter2 }", "{ password: *** }"),
        (
            "dsn: \"host=h password=hunter2\"",
            "dsn: \"host=h password=***",
        ),
        ("  \"api_key\": \"hun,ter}2\"", "  \"api_key\": ***"),
        ("token: 'hunter2' # x", "token: *** # x"),
        ("password: hunter 2 # x", "password: ***"),
        (
            "pwd: ${secret:X}, url: ${secret:Y}",
            "pwd: ${secret:X}, url: ${secret:Y}",
        ),
        (
            "token: \"${secret:X}\", page: 5",
            "token: \"${secret:X}\", page: 5",
        ),
        (
            "url: postgres://u:hun@ter/2@h/d",
            "url: postgres://u:***@h/d",
        ),
        ("token_url: https://h/x", "token_url: https://h/x"),
    ];
    for (line, expected) in cases {
        assert_eq!(masked(line), expected);
    }
}

proptest! {
    #[test]
    fn a_stream_hides_the_same_however_it_is_cut(
        text in "[ab1@]{0,60}",
        secrets in prop::collection::vec("[ab1@]{4,7}", 0..4),
        cuts in prop::collection::vec(0_usize..61, 0..6),
    ) {
        let secrets: Vec<SecretString> = secrets.into_iter().map(SecretString::from).collect();
        let redactor = Redactor::new(&secrets);
        let whole = redactor.redact(&text);
        for secret in &secrets {
            prop_assert!(!whole.contains(secret.expose_secret()), "{whole}");
        }
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut stream = redactor.stream();
        let mut shown = Vec::new();
        for pair in cuts.windows(2) {
            shown.extend(stream.push(&text.as_bytes()[pair[0]..pair[1]]));
        }
        shown.extend(stream.finish());
        prop_assert_eq!(String::from_utf8(shown).unwrap(), whole);
    }

    #[test]
    fn no_text_makes_the_room_panic(text in any::<String>(), tail in "[:/@${}a?&=\"']{0,40}") {
        for text in [&text, &tail, &format!("x://{tail}"), &format!("token: {tail}")] {
            let _ = references(text);
            let _ = literal_url_password(text);
            let _ = mask_literals(text);
            let _ = names_a_secret(text);
            let _ = resolve_url(text, &source(&[]));
        }
    }
}
