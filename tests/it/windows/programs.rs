//! Real programs: hours made into days over both changes of the clock.

use super::{every, flow, job, set, source};
use crate::coordinator_support::Site;
use crate::harness::{Daemon, Program, Role, eventually};

const EXTRACT: &str = "#!/bin/sh
set -eu
printf '%s %s %s %s\\n' \"$ODF_WINDOW_LABEL\" \"$ODF_WINDOW_START\" \"$ODF_WINDOW_END\" \"$ODF_WINDOW_ZONE\" > \"$ODF_STAGING\"
";

/// Counts its inputs in three ways and puts their files together.
const GATHER: &str = "#!/bin/sh
set -eu
lines=$(wc -l < \"$ODF_INPUTS\")
sed 's/.*\"path\":\"\\([^\"]*\\)\".*/\\1/' \"$ODF_INPUTS\" | while read -r file; do cat \"$file\"; done > all
printf '%s inputs=%s counted=%s hours=%s distinct=%s\\n' \"$ODF_CHUNK\" \"$lines\" \"$ODF_INPUT_COUNT\" \
  \"$(wc -l < all)\" \"$(cut -d' ' -f2 all | sort -u | wc -l)\" > \"$ODF_STAGING\"
";

#[tokio::test]
async fn real_programs_make_days_of_23_24_and_25_hours() {
    let site = Site::new().await;
    let lake = site.path().join("lake");
    std::fs::create_dir(&lake).unwrap();
    let (spring, autumn) = (("2024-03-30", "2024-04-01"), ("2024-10-27", "2024-10-29"));
    let mut sets = Vec::new();
    let mut jobs = Vec::new();
    for (season, (from, to)) in [("spring", spring), ("autumn", autumn)] {
        let hours = format!("{season}_hours");
        sets.push(source(&format!("{season}_clock"), &every("hour", from, to)));
        sets.push(set(&hours, ""));
        sets.push(set(&format!("{season}_days"), &every("day", from, to)));
        jobs.push(job("extract", &format!("{season}_clock"), &hours).replacen(
            "extract:",
            &format!("{season}_extract:"),
            1,
        ));
        let input = format!("{{ dataset: {hours}, chunks: windows, accept: unvalidated }}");
        jobs.push(job("gather", &input, &format!("{season}_days")).replacen(
            "gather:",
            &format!("{season}_gather:"),
            1,
        ));
    }
    let text = flow(&sets, &jobs).replace("/nowhere", &lake.display().to_string());
    for (name, body) in [("extract.sh", EXTRACT), ("gather.sh", GATHER)] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = site.write(name, body);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    site.apply(&text).await.ok();
    let mut serve = site.serve(10).await;
    let mut worker: Daemon = Program::worker(&["run"])
        .await
        .database(site.db.url(Role::Worker))
        .env("ODF_WORKER_NAME", "w1")
        .env("ODF_SLOTS", "4")
        .env("ODF_SCRIPT_DIR", site.path().display().to_string())
        .env(
            "ODF_STATE_DIR",
            site.path().join("state").display().to_string(),
        )
        .env("ODF_TIME_SCALE", "10")
        .start();
    eventually("every day to be made", || async {
        let done: i64 = site
            .db
            .count("odf.chunk where dataset like '%_days' and status = 'validated'")
            .await;
        (done == 4).then_some(())
    })
    .await;
    let locations: Vec<String> = site
        .db
        .column(
            "select p.location from odf.publication p join odf.chunk c using (chunk_id)
              where c.dataset like '%\\_days' order by c.key",
        )
        .await;
    let made: Vec<String> = locations
        .iter()
        .map(|place| {
            std::fs::read_to_string(lake.join(place))
                .unwrap()
                .trim()
                .to_owned()
        })
        .collect();
    let expected =
        |day: &str, n: u32| format!("{day} inputs={n} counted={n} hours={n} distinct={n}");
    assert_eq!(
        made,
        [
            expected("2024-03-30", 24),
            expected("2024-03-31", 23),
            expected("2024-10-27", 25),
            expected("2024-10-28", 24),
        ]
    );
    worker.stop().await;
    serve.stop().await;
}
