//! The model's state and rules: two stages of chunks, leases, requests, limits.

use std::collections::{BTreeMap, BTreeSet};

/// What a chunk has come to, as the model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Waiting,
    Ready,
    Validated,
    Failed,
    Exhausted,
    Held,
    Cancelled,
}

impl Status {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Validated => "validated",
            Self::Failed => "failed",
            Self::Exhausted => "exhausted",
            Self::Held => "held",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        use Status::{Cancelled, Exhausted, Failed, Held, Ready, Validated, Waiting};
        [
            Waiting, Ready, Validated, Failed, Exhausted, Held, Cancelled,
        ]
        .into_iter()
        .find(|status| status.word() == word)
    }
}

/// What a person may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Resubmit,
    Held,
    Cancelled,
}

impl Verb {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Resubmit => "resubmit",
            Self::Held => "held",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Validated,
    Transient,
    Permanent,
    Host,
    Released,
    Lost,
}

/// Charged failures before a chunk is set aside.
pub(super) const MAX_ATTEMPTS: i32 = 3;
const MAX_LOST: i32 = 5;

#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// 0 is made from the source, 1 from the chunk of stage 0 named by `input`.
    pub(super) stage: usize,
    pub(super) input: Option<i64>,
    pub(super) status: Status,
    pub(super) generation: i32,
    pub(super) ended: i32,
    pub(super) charged: i32,
    pub(super) lost: i32,
    pub(super) lease: Option<Lease>,
    pub(super) requests: Vec<Verb>,
    pub(super) retry_at: f64,
    pub(super) highest_fence: i64,
    pub(super) published: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) session: i64,
    pub(super) fence: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) chunks: BTreeMap<i64, Chunk>,
    pub(super) limits: [Option<usize>; 2],
    pub(super) paused: [bool; 2],
}

impl Model {
    pub(super) fn new(first: &[i64], second: &[i64]) -> Self {
        let chunk = |stage, input, status| Chunk {
            stage,
            input,
            status,
            generation: 0,
            ended: 0,
            charged: 0,
            lost: 0,
            lease: None,
            requests: Vec::new(),
            retry_at: 0.0,
            highest_fence: 0,
            published: Vec::new(),
        };
        let mut chunks: BTreeMap<i64, Chunk> = first
            .iter()
            .map(|id| (*id, chunk(0, None, Status::Ready)))
            .collect();
        chunks.extend(
            first
                .iter()
                .zip(second)
                .map(|(input, id)| (*id, chunk(1, Some(*input), Status::Waiting))),
        );
        Self {
            chunks,
            limits: [None, None],
            paused: [false, false],
        }
    }

    pub(super) fn chunk(&mut self, id: i64) -> &mut Chunk {
        self.chunks.get_mut(&id).unwrap()
    }

    pub(super) fn running(&self, stage: usize) -> usize {
        self.chunks
            .values()
            .filter(|c| c.stage == stage && c.lease.is_some())
            .count()
    }

    pub(super) fn leases_of(&self, session: i64) -> Vec<i64> {
        self.chunks
            .iter()
            .filter(|(_, c)| c.lease.is_some_and(|l| l.session == session))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What people see.
    pub(super) fn shown(&self, id: i64) -> &'static str {
        let chunk = &self.chunks[&id];
        match (chunk.requests.last(), chunk.lease) {
            (Some(verb), _) => verb.word(),
            (None, Some(_)) => "running",
            (None, None) => chunk.status.word(),
        }
    }

    fn input_is_there(&self, id: i64) -> bool {
        self.chunks[&id]
            .input
            .is_none_or(|input| self.chunks[&input].status == Status::Validated)
    }

    fn readers(&self, id: i64) -> Vec<i64> {
        self.chunks
            .iter()
            .filter(|(_, c)| c.input == Some(id))
            .map(|(id, _)| *id)
            .collect()
    }

    fn promote(&mut self, ids: &[i64]) {
        for id in ids {
            if self.chunks[id].status == Status::Waiting && self.input_is_there(*id) {
                self.chunk(*id).status = Status::Ready;
            }
        }
    }

    /// Whether a lease may be given, and if so, gives it.
    pub(super) fn lease(
        &mut self,
        id: i64,
        lease: Lease,
        input: Option<(i64, i32)>,
    ) -> Result<(), String> {
        let there = self.input_is_there(id);
        let read = self.chunks[&id]
            .input
            .map(|input| (input, self.chunks[&input].generation));
        let chunk = self.chunk(id);
        let problem = if chunk.status != Status::Ready {
            Some(format!("it is {}", chunk.status.word()))
        } else if let Some(other) = chunk.lease {
            Some(format!("session {} runs it", other.session))
        } else if !there {
            Some("its input is not there".to_owned())
        } else if chunk.stage == 1 && read != input {
            Some(format!("it should read {read:?}, not {input:?}"))
        } else if lease.fence <= chunk.highest_fence {
            Some(format!(
                "fence {} is not above {}",
                lease.fence, chunk.highest_fence
            ))
        } else if lease.fence & 0xffff_ffff != i64::from(chunk.ended) + 1 {
            Some(format!("{} attempts have ended", chunk.ended))
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(format!("chunk {id} was leased: {problem}"));
        }
        chunk.lease = Some(lease);
        chunk.highest_fence = lease.fence;
        Ok(())
    }

    /// An attempt that holds its lease ends.
    pub(super) fn end(&mut self, id: i64, end: End) {
        let chunk = self.chunk(id);
        let lease = chunk.lease.take().unwrap();
        chunk.ended += 1;
        match end {
            End::Validated => {
                chunk.generation += 1;
                chunk.lost = 0;
                chunk.status = Status::Validated;
                chunk.published.push(lease.fence);
            }
            End::Transient | End::Permanent => {
                chunk.charged += 1;
                let over = end == End::Permanent || chunk.charged >= MAX_ATTEMPTS;
                chunk.status = if over {
                    Status::Exhausted
                } else {
                    Status::Failed
                };
            }
            End::Host => {
                let over = chunk.charged >= MAX_ATTEMPTS;
                chunk.status = if over {
                    Status::Exhausted
                } else {
                    Status::Failed
                };
            }
            End::Released => {}
            End::Lost => {
                chunk.lost += 1;
                if chunk.lost >= MAX_LOST {
                    chunk.status = Status::Exhausted;
                }
            }
        }
        if end == End::Validated {
            let readers = self.readers(id);
            self.promote(&readers);
        }
    }

    pub(super) fn may_request(&self, id: i64, verb: Verb) -> bool {
        use Status::{Cancelled, Exhausted, Failed, Held, Ready, Waiting};
        let status = self.chunks[&id].status;
        match verb {
            Verb::Resubmit => true,
            Verb::Held => matches!(status, Waiting | Ready | Failed | Exhausted),
            Verb::Cancelled => {
                matches!(status, Waiting | Ready | Failed | Exhausted | Held) && status != Cancelled
            }
        }
    }

    /// Applies what was asked for, of these chunks or of all, as far as nothing runs or reads them.
    pub(super) fn apply_requests(&mut self, only: Option<&[i64]>) {
        let able: Vec<i64> = self
            .chunks
            .iter()
            .filter(|(id, c)| {
                !c.requests.is_empty()
                    && only.is_none_or(|only| only.contains(id))
                    && c.lease.is_none()
                    && self
                        .readers(**id)
                        .iter()
                        .all(|r| self.chunks[r].lease.is_none())
            })
            .map(|(id, _)| *id)
            .collect();
        let mut again = Vec::new();
        for id in &able {
            let verb = *self.chunks[id].requests.last().unwrap();
            let allowed = self.may_request(*id, verb);
            let chunk = self.chunk(*id);
            chunk.requests.clear();
            match verb {
                Verb::Resubmit if chunk.status != Status::Waiting => {
                    chunk.status = Status::Waiting;
                    (chunk.charged, chunk.lost) = (0, 0);
                    again.push(*id);
                }
                Verb::Resubmit => {}
                Verb::Held if allowed => chunk.status = Status::Held,
                Verb::Cancelled if allowed => chunk.status = Status::Cancelled,
                Verb::Held | Verb::Cancelled => {}
            }
        }
        for id in &again {
            for reader in self.readers(*id) {
                let reader = self.chunk(reader);
                if reader.status == Status::Ready && reader.lease.is_none() {
                    reader.status = Status::Waiting;
                }
            }
        }
        self.promote(&again);
    }

    /// Retries that are due: `sure` before this moment, either way within half a second of it.
    pub(super) fn retry_due(&mut self, now: f64) -> BTreeSet<i64> {
        let mut unsure = BTreeSet::new();
        let failed: Vec<i64> = self
            .chunks
            .iter()
            .filter(|(_, c)| c.status == Status::Failed)
            .map(|(id, _)| *id)
            .collect();
        for id in failed {
            let at = self.chunks[&id].retry_at;
            if (at - now).abs() < 0.5 {
                unsure.insert(id);
            } else if at < now {
                self.chunk(id).status = Status::Waiting;
                self.promote(&[id]);
            }
        }
        unsure
    }
}
