//! Taking a checked flow over into the control database, and reading back what is in force.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::error::Said;
use super::{ControlDb, StoreError, read};
use crate::domain::JobSpec;
use crate::flow::model::{Flow, Job, Run};

/// What `apply` did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Applied {
    /// The flow's name.
    pub flow: String,
    /// The version in force now.
    pub version: i32,
    /// Whether that is a new one.
    pub changed: bool,
}

/// A flow to apply with what goes with it.
#[derive(Debug, Clone)]
pub struct Application<'a> {
    /// The checked flow.
    pub flow: &'a Flow,
    /// The file as written.
    pub document: &'a str,
    /// SHA-256 (hex) of the file and the pinned scripts together.
    pub digest: &'a str,
    /// SHA-256 (hex) of each job's script, where it is known here.
    pub scripts: &'a BTreeMap<String, String>,
    /// Longest way from a source, by job.
    pub depths: &'a BTreeMap<String, u32>,
    /// Whether limits that `scale` set give way to the file's.
    pub reset_limits: bool,
}

impl ControlDb {
    /// Applies a flow: idempotent, versioned, all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it would orphan running or published work.
    pub async fn apply_flow(&self, application: &Application<'_>) -> Result<Applied, StoreError> {
        let flow = application.flow;
        let jobs: Vec<Value> = flow
            .jobs
            .iter()
            .map(|(name, job)| job_row(application, name, job))
            .collect();
        let body = json!({
            "name": flow.name, "document": application.document, "digest": application.digest,
            "model": flow, "reset_limits": application.reset_limits, "jobs": jobs,
        });
        read(
            "apply_flow",
            self.call("SELECT odf.apply_flow($1)", &[(&body, Type::JSONB)])
                .await?,
        )
    }

    /// The model of a flow's current version, if it was ever applied.
    ///
    /// # Errors
    /// As every call.
    pub async fn current_flow(&self, name: &str) -> Result<Option<(i32, Flow)>, StoreError> {
        let answer = self
            .call(
                "SELECT jsonb_build_array(v.version, v.model) FROM odf.flow f JOIN odf.flow_version v \
                 ON v.flow_id = f.flow_id AND v.version = f.current_version WHERE f.name = $1",
                &[(&name, Type::TEXT)],
            )
            .await?;
        read("current_flow", answer)
    }
}

fn job_row(application: &Application<'_>, name: &str, job: &Job) -> Value {
    let flow = application.flow;
    let output_at = flow.datasets[&job.output].at.clone();
    let mut used: Vec<&str> = vec![&output_at.connection];
    used.extend(
        job.inputs
            .iter()
            .map(|input| flow.datasets[&input.dataset].at.connection.as_str()),
    );
    used.extend(job.connections.iter().map(String::as_str));
    let checks = &flow.datasets[&job.output].checks;
    used.extend(checks.connections());
    let spec = JobSpec {
        name: name.to_owned(),
        job: job.clone(),
        script_sha256: application.scripts.get(name).cloned(),
        output_at: output_at.clone(),
        output: job.output.clone(),
        checks: checks.clone(),
        connections: used
            .iter()
            .filter_map(|used| {
                flow.connections
                    .get(*used)
                    .map(|c| ((*used).to_owned(), c.clone()))
            })
            .collect(),
    };
    let mut pools = job.pools.clone();
    if !pools.iter().any(|pool| pool == name) {
        pools.push(name.to_owned());
    }
    let inputs: Vec<Value> = job
        .inputs
        .iter()
        .map(|input| json!({"dataset": input.dataset, "mapping": input.mapping.word()}))
        .collect();
    json!({
        "name": name, "output": job.output, "depth": application.depths.get(name).copied().unwrap_or(1),
        "priority": job.priority, "labels": job.labels, "max_attempts": job.retry.attempts,
        "backoff_ms": job.retry.backoff_ms, "max_backoff_ms": job.retry.max_backoff_ms,
        "silence_s": job.silence_seconds, "approve": job.approve, "pools": pools, "inputs": inputs, "spec": spec,
    })
}

/// The script of a job, if that is what it runs.
#[must_use]
pub fn script_of(job: &Job) -> Option<&str> {
    match &job.run {
        Run::Script { script, .. } => Some(script),
    }
}

/// The one that was meant.
fn one_of<'n>(dataset: &str, named: &'n [(i32, String)]) -> Result<&'n (i32, String), StoreError> {
    match named {
        [one] => Ok(one),
        [] => Err(StoreError::NotFound(Said {
            message: format!("no sealed plan of a data set named {dataset:?}"),
            hint: Some("'coordinator status' lists data sets and whether they are planned".into()),
        })),
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name)| name.as_str()).collect();
            Err(StoreError::Usage(Said {
                message: format!("several flows have a data set named {dataset:?}"),
                hint: Some(format!("name one of {}", names.join(", "))),
            }))
        }
    }
}

/// A stored plan with what is needed to check it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StoredPlan {
    /// The data set's declaration.
    pub spec: crate::flow::model::DataSet,
    /// Its connection, secrets unresolved.
    pub connection: crate::flow::model::Connection,
    /// Every chunk's name and bounds, in plan order.
    pub chunks: Vec<(String, crate::domain::Bounds)>,
}

impl ControlDb {
    /// The sealed plan of a data set, whole: memory grows with its chunks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is no such data set or it has no sealed plan,
    /// [`StoreError::Usage`] where several flows have one of that name.
    pub async fn stored_plan(&self, dataset: &str) -> Result<StoredPlan, StoreError> {
        let named = self
            .call(
                "SELECT coalesce(jsonb_agg(jsonb_build_array(d.data_set_id, f.name || ':' || d.name) ORDER BY 2), '[]') \
                 FROM odf.data_set d JOIN odf.flow f USING (flow_id) \
                 WHERE NOT d.retired AND d.plan_id IS NOT NULL AND $1 IN (d.name, f.name || ':' || d.name)",
                &[(&dataset, Type::TEXT)],
            )
            .await?;
        let named: Vec<(i32, String)> = read("stored_plan", named)?;
        let (data_set, _) = one_of(dataset, &named)?;
        let answer = self
            .call(
                "SELECT jsonb_build_object('spec', d.spec, \
                   'connection', v.model -> 'connections' -> (d.spec #>> '{at,connection}'), \
                   'chunks', (SELECT jsonb_agg(jsonb_build_array(c.key, c.bounds) ORDER BY c.ordinal) \
                                FROM odf.data_chunk c WHERE c.plan_id = d.plan_id)) \
                 FROM odf.data_set d JOIN odf.flow f USING (flow_id) \
                 JOIN odf.flow_version v ON v.flow_id = f.flow_id AND v.version = f.current_version \
                 WHERE d.data_set_id = $1",
                &[(data_set, Type::INT4)],
            )
            .await?;
        read("stored_plan", answer)
    }

    /// The pinned script hash of every job of a flow's current version; `None` where none is pinned.
    ///
    /// # Errors
    /// As every call.
    pub async fn pinned_scripts(
        &self,
        flow: &str,
    ) -> Result<BTreeMap<String, Option<String>>, StoreError> {
        let answer = self
            .call(
                "SELECT coalesce(jsonb_object_agg(j.name, j.spec ->> 'script_sha256'), '{}') \
                 FROM odf.job j JOIN odf.flow f USING (flow_id) WHERE f.name = $1 AND NOT j.retired",
                &[(&flow, Type::TEXT)],
            )
            .await?;
        read("pinned_scripts", answer)
    }

    /// How many chunks the plan in force of every planned data set of a flow has.
    ///
    /// # Errors
    /// As every call.
    pub async fn planned_chunks(&self, flow: &str) -> Result<BTreeMap<String, i64>, StoreError> {
        let answer = self
            .call(
                "SELECT coalesce(jsonb_object_agg(d.name, p.chunks), '{}') \
                 FROM odf.data_set d JOIN odf.flow f USING (flow_id) JOIN odf.plan p USING (plan_id) \
                 WHERE f.name = $1 AND NOT d.retired",
                &[(&flow, Type::TEXT)],
            )
            .await?;
        read("planned_chunks", answer)
    }

    /// Limits that `scale` set in a flow: pool, the operator's limit, the file's; `None` is unlimited.
    ///
    /// # Errors
    /// As every call.
    pub async fn limit_overrides(
        &self,
        flow: &str,
    ) -> Result<Vec<(String, Option<u32>, Option<u32>)>, StoreError> {
        let answer = self
            .call(
                "SELECT coalesce(jsonb_agg(jsonb_build_array(p.name, p.operator_limit, p.file_limit) ORDER BY p.name), '[]') \
                 FROM odf.pool p JOIN odf.flow f USING (flow_id) \
                 WHERE f.name = $1 AND p.operator_set AND NOT p.retired",
                &[(&flow, Type::TEXT)],
            )
            .await?;
        read("limit_overrides", answer)
    }
}
