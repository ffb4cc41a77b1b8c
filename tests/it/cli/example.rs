//! `example`: what is printed is a flow file without a complaint, what is written can be run.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use coordinator::cli::Exit;

use super::support::run_words;

#[tokio::test]
async fn the_printed_example_is_a_flow_file_without_a_complaint() {
    let ran = run_words(None, &["example", "warehouse"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    let parsed = common::flow::parse_flow(&ran.out, "flow.yaml").unwrap();
    assert_eq!(parsed.warnings.len(), 0, "{:?}", parsed.warnings);
    let listed = run_words(None, &["example", "-q"]).await;
    assert!(listed.out.starts_with("warehouse  "), "{}", listed.out);
    let none = run_words(None, &["example", "nix"]).await;
    assert_eq!(
        (none.exit, none.err.as_str()),
        (
            Exit::NotFound,
            "error: no example named \"nix\"\nhint: examples: warehouse\n"
        )
    );
}

#[tokio::test]
async fn the_written_example_has_scripts_that_run_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("new/flow");
    let words = ["example", "warehouse", place.to_str().unwrap()];
    let ran = run_words(None, &words).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    for script in ["scripts/extract.sh", "scripts/load.sh"] {
        let path = place.join(script);
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o111,
            0o111,
            "{script}"
        );
        let check = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(
            check.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&check.stderr)
        );
    }
    std::fs::write(place.join("flow.yaml"), "mine").unwrap();
    let again = run_words(None, &words).await;
    assert_eq!(again.exit, Exit::Refused, "{}", again.err);
    assert_eq!(
        std::fs::read_to_string(place.join("flow.yaml")).unwrap(),
        "mine"
    );
}

#[tokio::test]
async fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run_words(None, &["completions", shell]).await;
        assert_eq!(ran.exit, Exit::Ok);
        for word in [
            "status",
            "resubmit",
            "retry",
            "failures",
            "apply",
            "--until-done",
        ] {
            let found = ran.out.contains(word.trim_start_matches('-'));
            assert!(found, "{word} in the script for {shell}");
        }
    }
}
