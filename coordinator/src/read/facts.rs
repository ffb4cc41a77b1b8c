//! What is known about a data set, its lane, its pools and the fleet at one moment.
//!
//! Rows of the read models and the input of every derivation in `state` and `why`. Nothing in
//! here decides or prints anything.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Chunks of a data set by stored status. `running` ones are among `ready`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// An input is missing.
    pub waiting: i64,
    /// Claimable or running.
    pub ready: i64,
    /// Published, waiting for approval.
    pub complete: i64,
    /// Published and checked.
    pub validated: i64,
    /// To be retried.
    pub failed: i64,
    /// For a person to decide.
    pub exhausted: i64,
    /// Set aside by a person.
    pub held: i64,
    /// Ended by a person.
    pub cancelled: i64,
    /// Replaced by children.
    pub split: i64,
}

/// Where a job's chunks wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneFacts {
    /// A person stopped it.
    pub paused: bool,
    /// Why, as that person wrote.
    pub reason: Option<String>,
    /// Who said so last.
    pub changed_by: Option<String>,
    /// Why the system itself claims nothing here.
    pub blocked: Option<String>,
    /// Nothing is claimed while a new plan takes force.
    #[serde(default)]
    pub replanning: bool,
    /// What a worker must have.
    pub labels: Vec<String>,
}

/// A limit and what runs under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFacts {
    /// Its name.
    pub name: String,
    /// What is in force; `None` is unlimited.
    pub limit: Option<i32>,
    /// A person stopped it.
    pub paused: bool,
    /// Whether `scale` rather than the file says the limit.
    pub operator_set: bool,
    /// Why, as that person wrote.
    pub reason: Option<String>,
    /// Who said so last.
    pub changed_by: Option<String>,
    /// Leases under it.
    pub running: i64,
}

/// One input of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFacts {
    /// The data set's name.
    pub dataset: String,
    /// Taken whole rather than chunk by chunk.
    pub whole: bool,
    /// Chunks of its sealed plan; `None` without one.
    pub chunks: Option<i64>,
    /// Chunks that consumers may take.
    pub validated: i64,
    /// Chunks that wait for a person.
    pub exhausted: i64,
}

/// Back-pressure of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BufferFacts {
    /// At most so many chunks published and not consumed.
    pub chunks: Option<i64>,
    /// At most so many bytes.
    pub bytes: Option<i64>,
    /// Published and not consumed by the slowest consumer.
    pub unconsumed: i64,
    /// Mean size of a published chunk, in bytes.
    pub mean_bytes: f64,
}

/// The last publications of a data set: at most a day and 2,000 of all data sets together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// In the last 15 minutes.
    pub n_15m: i64,
    /// Their bytes.
    pub bytes_15m: i64,
    /// In the last hour.
    pub n_1h: i64,
    /// Their bytes.
    pub bytes_1h: i64,
    /// In all of the sample.
    pub n_all: i64,
    /// Their bytes.
    pub bytes_all: i64,
    /// When the earliest claimed one was claimed.
    pub first_claimed: DateTime<Utc>,
    /// Where the sample was cut off: it knows nothing earlier. `None` where it reaches back a day.
    pub cut_since: Option<DateTime<Utc>>,
}

/// All that a data set's state is derived from.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSetFacts {
    /// Its flow.
    pub flow: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub data_set_id: i32,
    /// The job that makes it; `None` for a source.
    pub job: Option<String>,
    /// Chunks of its sealed plan; `None` without one.
    pub chunks: Option<i64>,
    /// What the splitter remarked.
    pub notes: Vec<String>,
    /// The plan in force was cut by another partition than the one that is declared now.
    pub outdated: bool,
    /// Where planning it again stands, while that is under way: `asked`, `prepared` or `confirmed`.
    pub replan: Option<String>,
    /// Why the last split failed.
    pub plan_error: Option<String>,
    /// One of the inputs that its chunks need and that no plan has.
    pub gap: Option<String>,
    /// Since when a plan is being written.
    pub writing_since: Option<DateTime<Utc>>,
    /// Chunks by stored status.
    pub counts: Counts,
    /// Leases.
    pub running: i64,
    /// Rows of the current generations.
    pub rows_out: i64,
    /// Bytes of the current generations.
    pub bytes_out: i64,
    /// Where its chunks wait; `None` for a source.
    pub lane: Option<LaneFacts>,
    /// Limits of that lane.
    pub pools: Vec<PoolFacts>,
    /// What its job reads, in order.
    pub inputs: Vec<InputFacts>,
    /// Its back-pressure, where declared.
    pub buffer: Option<BufferFacts>,
    /// The earliest retry among the next 500 of the installation.
    pub next_retry: Option<DateTime<Utc>>,
    /// Different messages among those.
    pub reasons: Vec<String>,
    /// Its last publications; `None` where there were none in a day.
    pub sample: Option<Sample>,
}

/// A worker that is at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerFacts {
    /// Its name.
    pub name: String,
    /// `active` or `silent`.
    pub state: String,
    /// Told to take nothing new.
    pub draining: bool,
    /// What it offers.
    pub labels: Vec<String>,
    /// How many chunks it may run at once.
    pub slots: i64,
    /// Leases it holds.
    pub running: i64,
}

/// Who leads and who works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetFacts {
    /// The control database's time.
    pub now: DateTime<Utc>,
    /// Whether a coordinator leads.
    pub leads: bool,
    /// Which one leads or led last.
    pub holder: String,
    /// Its term; 0 when none ever led.
    pub term: i64,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Workers at work.
    pub workers: Vec<WorkerFacts>,
    /// Leases of the whole installation.
    pub running: i64,
    /// Requests that wait for a running attempt or reader to end (at most 10,000 are counted).
    pub pending: i64,
    /// Repairs that should never be needed.
    pub repairs: i64,
}
