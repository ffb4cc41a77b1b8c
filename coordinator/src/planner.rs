//! Splitting one data set: its connection resolved here and now, its chunks into a sink.
//!
//! Used by the leader's planning loop, which stores what it gets, and by `coordinator plan`, which
//! only counts it. Secrets are resolved for every split anew and never kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use common::domain::NewChunk;
use common::endpoint::ExposeSecret as _;
use common::flow::model::{Connection, ConnectionKind, DataSet, Partition};
use common::secret::{SecretSource, resolve, resolve_url};
use common::store::{LeaderProof, StoreError};

use crate::split::{self, ChunkSink, Endpoint, SplitLimits, SplitRequest, SplitSummary};

/// What a split needs besides the data set itself.
#[derive(Debug, Clone)]
pub struct Planner {
    secrets: SecretSource,
    script_dir: Option<PathBuf>,
}

impl Planner {
    /// A planner that resolves references from `secrets` and finds planning commands in `script_dir`.
    #[must_use]
    pub fn new(secrets: SecretSource, script_dir: Option<PathBuf>) -> Self {
        Self {
            secrets,
            script_dir,
        }
    }

    /// A connection with its references resolved from this process's environment, read anew.
    ///
    /// # Errors
    /// Where a reference is not found here, or a root is not absolute.
    pub async fn endpoint(&self, connection: &Connection) -> anyhow::Result<Endpoint> {
        let (secrets, connection) = (self.secrets.clone(), connection.clone());
        // A secret may come from a file or a command.
        tokio::task::spawn_blocking(move || endpoint_of(&secrets, &connection))
            .await
            .context("resolve references")?
    }

    /// Splits a data set into `sink`.
    ///
    /// # Errors
    /// With the whole chain of causes; what was pushed before is worthless then.
    pub async fn split(
        &self,
        name: &str,
        spec: &DataSet,
        connection: &Connection,
        sink: &mut dyn ChunkSink,
    ) -> anyhow::Result<SplitSummary> {
        let Some(partition) = &spec.partition else {
            bail!("data set {name} has no partition to split by")
        };
        let env = BTreeMap::new();
        let request = SplitRequest {
            dataset: name,
            endpoint: self
                .endpoint(connection)
                .await
                .with_context(|| format!("resolve connection {:?}", spec.at.connection))?,
            location: &spec.at,
            partition,
            script_dir: self.script_dir.as_deref(),
            env: &env,
            limits: SplitLimits::default(),
        };
        Ok(split::split(request, sink).await?)
    }

    /// Splits a data set into a plan that was just begun.
    ///
    /// # Errors
    /// Where the control database did not take it; what the source cannot do is [`Written::Failed`].
    pub async fn write(
        &self,
        proof: &LeaderProof,
        plan: i64,
        name: &str,
        spec: &DataSet,
        connection: Option<&Connection>,
    ) -> Result<Written, StoreError> {
        let Some(connection) = connection else {
            let name = &spec.at.connection;
            let text = format!("its connection {name:?} is not declared");
            return Ok(Written::Failed(text));
        };
        let mut sink = PlanSink::new(proof, plan);
        let split = self.split(name, spec, connection, &mut sink).await;
        Ok(match (split, sink.failed()) {
            (Ok(summary), _) => Written::Whole {
                chunks: sink.written(),
                notes: summary.notes,
            },
            // Two chunks of one name are the source's doing, everything else is ours.
            (Err(_), Some(error)) if !matches!(error, StoreError::Refused(_)) => {
                return Err(error.clone());
            }
            (Err(error), _) => Written::Failed(format!("{error:#}")),
        })
    }

    /// Cuts a made data set by its own partition, which says its chunks without looking at anything:
    /// no connection is resolved.
    ///
    /// # Errors
    /// With the whole chain of causes.
    pub async fn split_made(
        &self,
        name: &str,
        spec: &DataSet,
        sink: &mut dyn ChunkSink,
    ) -> anyhow::Result<SplitSummary> {
        let partition = spec.partition.as_ref().unwrap_or(&Partition::Single);
        let env = BTreeMap::new();
        let request = SplitRequest {
            dataset: name,
            endpoint: Endpoint::Other,
            location: &spec.at,
            partition,
            script_dir: None,
            env: &env,
            limits: SplitLimits::default(),
        };
        Ok(split::split(request, sink).await?)
    }
}

/// What splitting into a plan came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// All of it is written; it is not sealed yet.
    Whole {
        /// How many chunks.
        chunks: i64,
        /// What to know about it.
        notes: Vec<String>,
    },
    /// It cannot be split as things are, and why.
    Failed(String),
}

fn endpoint_of(secrets: &SecretSource, connection: &Connection) -> anyhow::Result<Endpoint> {
    Ok(match &connection.kind {
        ConnectionKind::Postgres { url } => Endpoint::Postgres {
            url: resolve_url(url, secrets)?.value,
        },
        ConnectionKind::Files { root, .. } => {
            let root = PathBuf::from(resolve(root, secrets)?.expose_secret());
            if !root.is_absolute() {
                bail!(
                    "the root of a files connection must be absolute, found {}",
                    root.display()
                );
            }
            Endpoint::Files { root }
        }
        ConnectionKind::Other { .. } => Endpoint::Other,
    })
}

/// Stores chunks of one plan, batch after batch, under a leader's term.
pub struct PlanSink<'a> {
    proof: &'a LeaderProof,
    plan: i64,
    written: i64,
    failed: Option<StoreError>,
}

impl<'a> PlanSink<'a> {
    /// A sink into a plan that was just begun.
    #[must_use]
    pub fn new(proof: &'a LeaderProof, plan: i64) -> Self {
        Self {
            proof,
            plan,
            written: 0,
            failed: None,
        }
    }

    /// Chunks stored so far.
    #[must_use]
    pub fn written(&self) -> i64 {
        self.written
    }

    /// What the store said to the batch that it did not take, if that is what ended the split.
    #[must_use]
    pub fn failed(&self) -> Option<&StoreError> {
        self.failed.as_ref()
    }
}

#[async_trait]
impl ChunkSink for PlanSink<'_> {
    async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()> {
        match self.proof.add_chunks(self.plan, self.written, &batch).await {
            Ok(added) => {
                self.written += added;
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error.into())
            }
        }
    }
}

/// Counts chunks and keeps the first and last few, for a preview.
#[derive(Debug, Default)]
pub struct Preview {
    /// How many there were.
    pub chunks: u64,
    /// The first ones.
    pub first: Vec<NewChunk>,
    /// The last ones beyond those.
    pub last: Vec<NewChunk>,
    /// All of them, where they are kept.
    pub all: Vec<NewChunk>,
    keeps: bool,
}

impl Preview {
    /// A preview that keeps all chunks as well, if it is told to.
    #[must_use]
    pub fn keeping(keeps: bool) -> Self {
        Self {
            keeps,
            ..Self::default()
        }
    }
}

/// How many chunks a preview shows at either end.
const SHOWN: usize = 3;

#[async_trait]
impl ChunkSink for Preview {
    async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()> {
        if self.keeps {
            self.all.extend_from_slice(&batch);
        }
        for chunk in batch {
            self.chunks += 1;
            if self.first.len() < SHOWN {
                self.first.push(chunk);
            } else {
                if self.last.len() == SHOWN {
                    self.last.remove(0);
                }
                self.last.push(chunk);
            }
        }
        Ok(())
    }
}
