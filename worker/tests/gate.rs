//! Each of the five questions broken one by one, with real files and real scripts: the right refusal,
//! with its evidence, and nothing of the user's has run. Then the same with probes that lie.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::domain::{
    Answer, AttemptResult, Bounds, Evidence, FailureClass, InputChunk, Method, Outcome, Question,
};
use common::flow::model::{Input, Mapping, Verify};
use sha2::{Digest, Sha256};
use support::{Bench, at, failure, input};
use tokio_util::sync::CancellationToken;
use worker::gate::probe::{DatabaseFound, FileFound};
use worker::gate::{ENVIRONMENT_FILE, ProbeError, Probes, RealProbes};

const DATA: &str = "1,a\n2,b\n";

/// Notes that it has started, reads its input and writes it as its output.
const SCRIPT: &str = "#!/bin/sh\n: > \"$MARK\"\ncp \"$ODF_INPUT\" \"$ODF_STAGING\"\n";

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// A published input that answers yes to all five.
fn good() -> InputChunk {
    let mut input = input("orders", at("lake", Some("in/{chunk}.{fence}.csv"), None));
    input.location = Some("in/00042.7.csv".into());
    input.bytes = Some(DATA.len() as i64);
    input.checksum = Some(format!("sha256:{}", sha256(DATA)));
    input.connection = Some("lake".into());
    input.validation = Some(r#"{"format":"csv","rows":2}"#.into());
    input.attempt = Some(1);
    input.published_by = Some("w1".into());
    input
}

async fn bench(probes: Arc<dyn Probes>, input: InputChunk) -> Bench {
    let mut bench = Bench::new(SCRIPT).await;
    let mark = bench.path("started");
    bench.set_env("MARK", mark.to_str().unwrap());
    bench.env.probes = probes;
    bench.lake_file("in/00042.7.csv", DATA.as_bytes());
    bench.item.inputs = vec![input];
    bench.spec.job.inputs = vec![Input {
        dataset: "orders".into(),
        mapping: Mapping::SameKey,
        accept_unvalidated: false,
    }];
    for connection in bench.spec.connections.values_mut() {
        connection.environment = Some("prod".into());
    }
    bench
}

fn started(bench: &Bench) -> bool {
    bench.path("started").exists()
}

fn evidence(result: &AttemptResult) -> Evidence {
    let text = result.evidence.as_deref().expect("evidence is kept");
    assert!(text.len() <= Evidence::MAX_BYTES, "{text}");
    Evidence::decode(text).expect("evidence can be read")
}

/// Something wrong with an input, by what must be said of it.
struct Attack {
    name: &'static str,
    question: Question,
    class: FailureClass,
    says: &'static str,
    make: fn(&mut Bench),
}

fn lake(bench: &Bench, name: &str) -> std::path::PathBuf {
    bench.path("lake").join(name)
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "never published",
        question: Question::Ready,
        class: FailureClass::Gate,
        says: "ready of orders/00042",
        make: |bench| bench.item.inputs[0].generation = 0,
    },
    Attack {
        name: "truncated",
        question: Question::RightData,
        class: FailureClass::Refused,
        says: "expected 8 bytes",
        make: |bench| fs::write(lake(bench, "in/00042.7.csv"), "1,a\n").unwrap(),
    },
    Attack {
        name: "another chunk's bytes of the same size",
        question: Question::RightData,
        class: FailureClass::Refused,
        says: "coordinator resubmit orders/00042",
        make: |bench| fs::write(lake(bench, "in/00042.7.csv"), "3,c\n4,d\n").unwrap(),
    },
    Attack {
        name: "a source's file that grew since its plan",
        question: Question::RightData,
        class: FailureClass::Refused,
        says: "coordinator replan orders",
        make: |bench| {
            let input = &mut bench.item.inputs[0];
            (input.attempt, input.location) = (None, None);
            (input.checksum, input.bytes) = (None, None);
            input.bounds = Bounds::File {
                path: "in/00042.7.csv".into(),
                bytes: 3,
            };
        },
    },
    Attack {
        name: "gone",
        question: Question::RightLocation,
        class: FailureClass::Gate,
        says: "found nothing there",
        make: |bench| fs::remove_file(lake(bench, "in/00042.7.csv")).unwrap(),
    },
    Attack {
        name: "a directory in its place",
        question: Question::RightLocation,
        class: FailureClass::Refused,
        says: "found a directory",
        make: |bench| {
            fs::remove_file(lake(bench, "in/00042.7.csv")).unwrap();
            fs::create_dir(lake(bench, "in/00042.7.csv")).unwrap();
        },
    },
    Attack {
        name: "published under another connection",
        question: Question::RightLocation,
        class: FailureClass::Refused,
        says: "published under connection old_lake",
        make: |bench| bench.item.inputs[0].connection = Some("old_lake".into()),
    },
    Attack {
        name: "published unvalidated",
        question: Question::Validated,
        class: FailureClass::Refused,
        says: "was published unvalidated",
        make: |bench| bench.item.inputs[0].validation = None,
    },
    Attack {
        name: "a validation that vouches for nothing",
        question: Question::Validated,
        class: FailureClass::Refused,
        says: "was published unvalidated",
        make: |bench| bench.item.inputs[0].validation = Some("{}".into()),
    },
];

/// Whether the gate refuses the attack as it must.
async fn caught(attack: &Attack, probes: Arc<dyn Probes>) -> Result<(), String> {
    let mut bench = bench(probes, good()).await;
    (attack.make)(&mut bench);
    let result = bench.run().await;
    let Outcome::Failed { class, error } = &result.outcome else {
        return Err(format!("{}: {:?}", attack.name, result.outcome));
    };
    if *class != attack.class || !error.contains(attack.says) || !error.starts_with("gate: ") {
        return Err(format!("{}: {class:?} {error}", attack.name));
    }
    if started(&bench) || !bench.published().iter().all(|path| path.starts_with("in/")) {
        return Err(format!("{}: the script ran", attack.name));
    }
    let answers = evidence(&result).inputs[0].answers();
    let refusal = answers
        .last()
        .filter(|(question, answer, _)| *question == attack.question && *answer == Answer::No);
    match refusal {
        Some(_) => Ok(()),
        None => Err(format!("{}: evidence {answers:?}", attack.name)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_no_stops_the_attempt_before_its_script_and_is_kept() {
    for attack in ATTACKS {
        caught(attack, RealProbes::new()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_times_yes_lets_it_run_and_keeps_what_was_found() {
    let bench = bench(RealProbes::new(), good()).await;
    fs::write(lake(&bench, ENVIRONMENT_FILE), "prod\n").unwrap();
    let result = bench.run().await;
    assert!(
        matches!(result.outcome, Outcome::Validated(_)),
        "{result:?}"
    );
    assert!(started(&bench));
    let evidence = evidence(&result);
    let [input] = evidence.inputs.as_slice() else {
        panic!("{evidence:?}")
    };
    assert_eq!(input.bytes, Some(DATA.len() as u64));
    assert_eq!(input.sum.as_deref(), Some(&sha256(DATA)[..16]));
    let answers = input.answers();
    let expected = [
        Method::Published,
        Method::Sha256,
        Method::Stat,
        Method::Rules,
        Method::Shared,
    ];
    assert!(
        answers.iter().map(|answer| answer.2).eq(expected)
            && answers.iter().all(|answer| answer.1 == Answer::Yes),
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_away_is_waived_and_recorded_as_that() {
    let mut bench = bench(RealProbes::new(), good()).await;
    bench.item.inputs[0].validation = None;
    bench.spec.job.inputs[0].accept_unvalidated = true;
    bench.item.inputs[0].verify = Verify::Size;
    let result = bench.run().await;
    assert!(
        matches!(result.outcome, Outcome::Validated(_)),
        "{result:?}"
    );
    let how = &evidence(&result).inputs[0].how;
    assert_eq!(how, "pub size stat -acc share");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environment_is_refused_on_either_side() {
    let bench = bench(RealProbes::new(), good()).await;
    fs::write(lake(&bench, ENVIRONMENT_FILE), "dev\n").unwrap();
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Refused);
    assert!(
        error.contains("environment prod") && error.contains("environment dev"),
        "{error}"
    );
    assert!(!started(&bench));
    // The input's tree alone.
    let mut bench = self::bench(RealProbes::new(), good()).await;
    let other = bench.path("other");
    fs::create_dir_all(other.join("in")).unwrap();
    fs::write(other.join("in/00042.7.csv"), DATA).unwrap();
    fs::write(other.join(ENVIRONMENT_FILE), "dev\n").unwrap();
    let mut connection = support::files_connection(&other, 0);
    connection.environment = Some("prod".into());
    bench.spec.connections.insert("other".into(), connection);
    bench.item.inputs[0].at.connection = "other".into();
    bench.item.inputs[0].connection = Some("other".into());
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Refused);
    assert!(
        error.starts_with("gate: right location of orders/00042"),
        "{error}"
    );
    assert!(!started(&bench));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_not_mounted_is_the_host_s_fault() {
    let mut bench = bench(RealProbes::new(), good()).await;
    let gone = bench.path("not-mounted");
    bench
        .spec
        .connections
        .insert("other".into(), support::files_connection(&gone, 0));
    bench.item.inputs[0].at.connection = "other".into();
    bench.item.inputs[0].connection = Some("other".into());
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Host, "{error}");
    assert!(error.contains("mount or create it"), "{error}");
    assert!(!started(&bench));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_changed_under_the_job_publishes_nothing() {
    let bench = bench(RealProbes::new(), good()).await;
    let script = "#!/bin/sh\n: > \"$MARK\"\ncp \"$ODF_INPUT\" \"$ODF_STAGING\"\necho 9,z >> \"$ODF_INPUT\"\n";
    bench.script("job.sh", script, 0o755);
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Gate);
    assert!(error.contains("while the job read it"), "{error}");
    assert!(started(&bench));
    assert_eq!(bench.published(), ["in/00042.7.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_taken_whole_are_all_asked_and_kept_as_one_group() {
    let mut bench = bench(RealProbes::new(), good()).await;
    let template = bench.item.inputs[0].clone();
    let mut digest = Sha256::new();
    for n in 0..300 {
        let text = format!("{n},x\n");
        let mut input = template.clone();
        input.key = format!("{n:05}");
        input.location = Some(format!("in/{n}.csv"));
        input.bytes = Some(text.len() as i64);
        input.checksum = Some(format!("sha256:{}", sha256(&text)));
        fs::write(lake(&bench, &format!("in/{n}.csv")), &text).unwrap();
        digest.update(sha256(&text));
        bench.item.inputs.push(input);
    }
    bench.item.inputs.remove(0);
    let result = bench.run().await;
    assert!(started(&bench), "{result:?}");
    let kept = evidence(&result);
    assert_eq!(kept.inputs.len(), 1, "{kept:?}");
    assert_eq!(kept.inputs[0].n, 300);
    let sum = hex::encode(digest.finalize());
    assert_eq!(kept.inputs[0].sum.as_deref(), Some(&sum[..16]));
    // One bad one among them is named.
    fs::write(lake(&bench, "in/217.csv"), "217,y\n").unwrap();
    let result = bench.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Refused);
    assert!(error.contains("orders/00217"), "{error}");
    assert!(
        evidence(&result)
            .inputs
            .iter()
            .any(|input| input.how.contains('!'))
    );
}

/// Probes of which one says yes without looking.
struct Liar {
    honest: Arc<RealProbes>,
    about: Lie,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    /// Every file is there, and as long as it should be: what a stat of a name alone would say.
    FileIsThere,
    /// Every file tree is of whatever environment it should be.
    Environment,
}

#[async_trait::async_trait]
impl Probes for Liar {
    async fn file(
        &self,
        root: &Path,
        relative: &Path,
        verify: Verify,
        stop: &CancellationToken,
    ) -> Result<FileFound, ProbeError> {
        let found = self.honest.file(root, relative, verify, stop).await;
        if self.about != Lie::FileIsThere {
            return found;
        }
        // It must bring some stamp: that of a file that is surely there.
        let dummy = self
            .honest
            .file(Path::new("/"), Path::new("etc/passwd"), Verify::Size, stop)
            .await?;
        Ok(FileFound {
            bytes: DATA.len() as u64,
            sha256: None,
            ..dummy
        })
    }

    async fn tree(&self, root: &Path) -> Result<Option<String>, ProbeError> {
        match self.about {
            Lie::Environment => Ok(None),
            Lie::FileIsThere => self.honest.tree(root).await,
        }
    }

    async fn database(&self, url: &str, table: Option<&str>) -> Result<DatabaseFound, ProbeError> {
        self.honest.database(url, table).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_does_not_look_lets_attacks_through_and_is_seen() {
    let liar = |about| -> Arc<dyn Probes> {
        Arc::new(Liar {
            honest: RealProbes::new(),
            about,
        })
    };
    // Every attack on files is answered wrongly by a probe that does not look at them ...
    for name in ["gone", "a directory in its place"] {
        let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
        assert!(
            caught(attack, liar(Lie::FileIsThere)).await.is_err(),
            "{name}"
        );
    }
    // ... and even the good input is not passed on its word, since it brings no checksum.
    let honest = bench(liar(Lie::FileIsThere), good()).await;
    let result = honest.run().await;
    let (class, error) = failure(&result);
    assert_eq!(class, FailureClass::Refused, "{error}");
    // A tree that is not asked lets another environment's data through.
    let bench = bench(liar(Lie::Environment), good()).await;
    fs::write(lake(&bench, ENVIRONMENT_FILE), "dev\n").unwrap();
    let result = bench.run().await;
    assert!(
        matches!(result.outcome, Outcome::Validated(_)),
        "{result:?}"
    );
}
