//! Small flows: written as YAML, checked, applied and planned in one go.

use std::collections::BTreeMap;

use common::domain::{Bounds, ChunkId, NewChunk};
use common::flow::topology::Topology;
use common::flow::{self, model::Flow};
use common::store::ControlDb;
use common::store::apply::{Application, Applied};

use super::{Role, TestDb};

/// A flow to be: `src` -> extract -> `mid` -> load -> `dst`, and what a test changes about it.
#[derive(Clone)]
pub(crate) struct Shape {
    name: String,
    chunks: usize,
    pools: BTreeMap<String, String>,
    sets: BTreeMap<String, String>,
    jobs: BTreeMap<String, Vec<String>>,
}

impl Shape {
    /// `src` alone is there, in so many chunks; `extract` makes `mid` from it.
    pub(crate) fn single(chunks: usize) -> Self {
        let shape = Self {
            name: "test".to_owned(),
            chunks,
            pools: BTreeMap::new(),
            sets: BTreeMap::new(),
            jobs: BTreeMap::new(),
        };
        shape
            .set(
                "src",
                "at: { connection: db, table: src }, partition: { key: id, chunks: 10 }",
            )
            .stage("extract", "input: src", "mid")
    }

    /// `single`, and `load` makes `dst` from `mid`, chunk by chunk.
    pub(crate) fn chain(chunks: usize) -> Self {
        Self::single(chunks).stage(
            "load",
            "input: { dataset: mid, accept: unvalidated }",
            "dst",
        )
    }

    /// `chain`, and `sum` makes the one chunk of `total` from all of `dst`.
    pub(crate) fn fan_in(chunks: usize) -> Self {
        Self::chain(chunks).stage(
            "sum",
            "input: [{ dataset: dst, chunks: all, accept: unvalidated }]",
            "total",
        )
    }

    /// Another name than `test`.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// One more job, `input: ...` as in a flow file, and the data set that it makes.
    pub(crate) fn stage(mut self, job: &str, input: &str, output: &str) -> Self {
        let keys = vec![
            input.to_owned(),
            format!("output: {output}"),
            "run: { script: run.sh }".to_owned(),
        ];
        self.jobs.insert(job.to_owned(), keys);
        self.set(
            output,
            &format!("at: {{ connection: lake, path: \"{output}/{{chunk}}.{{fence}}\" }}"),
        )
    }

    /// A data set, with its keys as in a flow file.
    pub(crate) fn set(mut self, name: &str, keys: &str) -> Self {
        self.sets.insert(name.to_owned(), keys.to_owned());
        self
    }

    /// One more key of a job, for example `retry: { attempts: 2 }`.
    pub(crate) fn with(mut self, job: &str, key: &str) -> Self {
        self.jobs.get_mut(job).unwrap().push(key.to_owned());
        self
    }

    /// A pool's limit as written: a number or `none`. A job's own pool has the job's name.
    pub(crate) fn pool(mut self, name: &str, limit: &str) -> Self {
        self.pools.insert(name.to_owned(), limit.to_owned());
        self
    }

    /// The flow file.
    pub(crate) fn yaml(&self) -> String {
        let mut text = format!(
            "flow: {}\nconnections:\n  db: {{ kind: postgres, url: \"postgres://nobody@127.0.0.1:1/none\" }}\n  \
             lake: {{ kind: files, root: /nowhere }}\n",
            self.name
        );
        if !self.pools.is_empty() {
            text.push_str("pools:\n");
        }
        for (name, limit) in &self.pools {
            text.push_str(&format!("  {name}: {{ limit: {limit} }}\n"));
        }
        text.push_str("datasets:\n");
        for (name, keys) in &self.sets {
            text.push_str(&format!("  {name}: {{ {keys} }}\n"));
        }
        text.push_str("jobs:\n");
        for (name, keys) in &self.jobs {
            text.push_str(&format!("  {name}: {{ {} }}\n", keys.join(", ")));
        }
        text
    }

    /// Applies the flow and plans every data set.
    pub(crate) async fn build(&self, db: &TestDb) -> TestFlow {
        self.build_on(&db.control(Role::Coordinator)).await
    }

    /// As [`Self::build`], over a given store.
    pub(crate) async fn build_on(&self, control: &ControlDb) -> TestFlow {
        let flow = self.apply_on(control).await;
        flow.plan_all().await;
        flow
    }

    /// Applies the flow and plans nothing.
    pub(crate) async fn apply(&self, db: &TestDb) -> TestFlow {
        self.apply_on(&db.control(Role::Coordinator)).await
    }

    async fn apply_on(&self, control: &ControlDb) -> TestFlow {
        let flow = self.parse();
        apply_to(control, &flow, &self.yaml()).await.unwrap();
        TestFlow {
            control: control.clone(),
            flow,
            chunks: self.chunks,
        }
    }

    /// The checked model.
    pub(crate) fn parse(&self) -> Flow {
        let yaml = self.yaml();
        flow::parse_flow(&yaml, "test.yaml")
            .unwrap_or_else(|problems| panic!("{yaml}\n{problems:#?}"))
            .flow
    }
}

/// Applies a checked flow as the coordinator does.
pub(crate) async fn apply_to(
    control: &ControlDb,
    flow: &Flow,
    document: &str,
) -> Result<Applied, common::store::StoreError> {
    let topology = Topology::of(flow).unwrap();
    let depths = flow
        .jobs
        .keys()
        .map(|job| (job.clone(), topology.depth(job).unwrap()))
        .collect();
    control
        .apply_flow(&Application {
            flow,
            document,
            digest: document,
            scripts: &BTreeMap::new(),
            depths: &depths,
            reset_limits: false,
        })
        .await
}

/// An applied flow.
pub(crate) struct TestFlow {
    control: ControlDb,
    /// What was applied.
    pub(crate) flow: Flow,
    chunks: usize,
}

impl TestFlow {
    /// Plans every data set: sources in the given number of chunks, others from them.
    pub(crate) async fn plan(&self, _db: &TestDb) {
        self.plan_all().await;
    }

    async fn plan_all(&self) {
        loop {
            let open = self.control.unplanned().await.unwrap();
            let before = open.len();
            for set in open {
                let made = self.flow.jobs.values().any(|job| job.output == set.name);
                if made {
                    self.control.derive_plan(set.data_set_id).await.unwrap();
                } else {
                    let plan = self.control.begin_plan(set.data_set_id).await.unwrap();
                    self.write(plan).await;
                    self.control
                        .seal_plan(plan, self.chunks as i64, &[])
                        .await
                        .unwrap();
                }
            }
            let left = self.control.unplanned().await.unwrap().len();
            if left == 0 {
                return;
            }
            assert!(left < before, "planning makes no progress");
        }
    }

    /// Writes the chunks of a source into a plan, unsealed.
    pub(crate) async fn write(&self, plan: i64) {
        let chunks: Vec<NewChunk> = (1..=self.chunks).map(source_chunk).collect();
        let mut after = 0;
        for batch in chunks.chunks(5000) {
            after += self.control.add_chunks(plan, after, batch).await.unwrap();
        }
    }

    /// The chunks of a data set in the order of their numbers.
    pub(crate) async fn chunks(&self, db: &TestDb, set: &str) -> Vec<ChunkId> {
        let sql = format!(
            "select c.chunk_id from odf.data_chunk c join odf.data_set d using (plan_id) \
             join odf.flow f using (flow_id) where d.name = '{set}' and f.name = '{}' order by c.ordinal",
            self.flow.name
        );
        db.column::<i64>(&sql)
            .await
            .into_iter()
            .map(ChunkId)
            .collect()
    }

    /// The lane of a job.
    pub(crate) async fn lane(&self, db: &TestDb, job: &str) -> i32 {
        db.get(
            "select l.lane_id from odf.lane l join odf.job j using (job_id) join odf.flow f using (flow_id) \
             where j.name = $1 and f.name = $2",
            &[&job, &self.flow.name],
        )
        .await
    }

    /// A data set's number.
    pub(crate) async fn set_id(&self, db: &TestDb, set: &str) -> i32 {
        db.get(
            "select d.data_set_id from odf.data_set d join odf.flow f using (flow_id) where d.name = $1 and f.name = $2",
            &[&set, &self.flow.name],
        )
        .await
    }
}

/// The n-th chunk of a source, from 1.
pub(crate) fn source_chunk(n: usize) -> NewChunk {
    NewChunk {
        key: format!("{n:05}"),
        bounds: Bounds::Value {
            value: n.to_string(),
        },
        est_rows: Some(100),
        est_bytes: Some(1000),
    }
}
