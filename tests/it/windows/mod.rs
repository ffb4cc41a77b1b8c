//! Time windows and mappings: plans drawn by the real planning loop, gaps that hold chunks back, stale
//! outputs, and hours made into days by real programs over both changes of the clock.

use std::time::Duration;

use common::secret::SecretSource;
use coordinator::loops::LeaderPass;
use coordinator::loops::planning::Planning;
use coordinator::planner::Planner;

use tokio::sync::Mutex;

use crate::harness::flow::apply_to;
use crate::harness::{Role, TestDb, TestLeader, eventually};

pub(crate) mod plans;
mod programs;
mod table;

const HEAD: &str = "flow: test
connections:
  lake: { kind: files, root: /nowhere }
";

/// A data set in the lake, cut as given or not at all.
fn set(name: &str, partition: &str) -> String {
    let cut = if partition.is_empty() {
        String::new()
    } else {
        format!(", partition: {partition}")
    };
    format!(
        "  {name}: {{ at: {{ connection: lake, path: \"{name}/{{chunk}}.{{fence}}\" }}{cut} }}\n"
    )
}

/// A source, which has no fences.
fn source(name: &str, partition: &str) -> String {
    set(name, partition).replace(".{fence}", "")
}

fn job(name: &str, input: &str, output: &str) -> String {
    format!("  {name}: {{ input: {input}, output: {output}, run: {{ script: {name}.sh }} }}\n")
}

fn every(every: &str, from: &str, to: &str) -> String {
    format!("{{ every: {every}, from: {from}, to: {to}, zone: Europe/Berlin }}")
}

fn flow(sets: &[String], jobs: &[String]) -> String {
    format!("{HEAD}datasets:\n{}jobs:\n{}", sets.concat(), jobs.concat())
}

/// An applied flow with a leader of its own.
struct Case {
    db: TestDb,
    leader: TestLeader,
    planning: Planning,
}

impl Case {
    async fn new(text: &str) -> Self {
        Self::over(TestDb::new().await, text).await
    }

    async fn over(db: TestDb, text: &str) -> Self {
        let control = db.control(Role::Coordinator);
        let flow = common::flow::parse_flow(text, "test.yaml")
            .unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
            .flow;
        apply_to(&control, &flow, text).await.unwrap();
        let leader = TestLeader::start(&db).await;
        let planner = Planner::new(SecretSource::from_variables([]), None);
        let planning = Planning::new(planner, control.clone(), Duration::from_secs(3600));
        Self {
            db,
            leader,
            planning,
        }
    }

    /// Passes of the planning loop until all is planned or has failed.
    async fn plan(&mut self) {
        let (proof, db) = (&self.leader.proof, &self.db);
        let planning = &Mutex::new(&mut self.planning);
        eventually("planning to end", || async move {
            planning.lock().await.pass(proof).await.unwrap();
            let open: i64 = db
                .scalar("select count(*) from odf.data_set where plan_id is null and plan_error is null and not retired")
                .await;
            (open == 0).then_some(())
        })
        .await;
    }

    async fn keys(&self, query: &str) -> Vec<String> {
        self.db
            .column(&format!(
                "select c.key from odf.chunk c where {query} order by c.ordinal"
            ))
            .await
    }

    async fn error(&self, name: &str) -> String {
        let sql = format!("select plan_error from odf.data_set where name = '{name}'");
        self.db.scalar(&sql).await
    }

    async fn inputs_of(&self, chunk: &str) -> i64 {
        self.db
            .get(
                "select count(*) from odf.chunk_edge e join odf.chunk c using (chunk_id) where c.name = $1",
                &[&chunk],
            )
            .await
    }

    async fn control_request(&self, selector: &serde_json::Value) {
        self.db
            .exec("select odf.request('resubmit', $1, 'again')", &[selector])
            .await;
    }
}
