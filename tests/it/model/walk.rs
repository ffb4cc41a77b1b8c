//! A random walk: operations on the store, their echo in the model, a comparison after each.

use std::collections::BTreeMap;
use std::time::Duration;

use common::domain::{AttemptResult, ChunkId, FailureClass, Fence, Outcome, WorkItem};
use common::endpoint::PgSession;
use common::store::{Claimed, Settled};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::state::{End, Lease, Model, Status, Verb};
use crate::harness::{Role, Shape, TestDb, TestLeader, TestWorker, failed, validated};

const CHUNKS: usize = 12;
const SESSIONS: usize = 3;
const MAX_BACKOFF: f64 = 5.0;

struct Walk<'a> {
    db: &'a TestDb,
    rng: StdRng,
    model: Model,
    leader: TestLeader,
    operator: PgSession,
    workers: Vec<TestWorker>,
    /// What each worker believes that it runs.
    held: Vec<Vec<WorkItem>>,
    /// Everything that was ever leased, by whom: also to be settled again, wrongly and late.
    ever: Vec<(i64, WorkItem)>,
    gone: Vec<TestWorker>,
    lives: usize,
    log: Vec<String>,
}

/// Walks so many steps, drains everything, and tells what went wrong and how it came to it.
pub(crate) async fn walk(db: &TestDb, seed: u64, steps: usize) -> Result<(), String> {
    let mut walk = Walk::begin(db, seed).await;
    let result = walk.go(steps).await;
    result.map_err(|problem| {
        let last: Vec<String> = walk.log.iter().rev().take(12).rev().cloned().collect();
        format!(
            "{problem}\nafter {} steps, the last:\n  {}",
            walk.log.len(),
            last.join("\n  ")
        )
    })
}

impl<'a> Walk<'a> {
    async fn begin(db: &'a TestDb, seed: u64) -> Self {
        let retry = "retry: { attempts: 3, backoff: 2s, max_backoff: 5s }";
        let flow = Shape::chain(CHUNKS)
            .with("extract", retry)
            .with("load", retry)
            .build(db)
            .await;
        let ids = |chunks: Vec<ChunkId>| chunks.iter().map(|c| c.0).collect::<Vec<_>>();
        let first = ids(flow.chunks(db, "mid").await);
        let second = ids(flow.chunks(db, "dst").await);
        let leader = TestLeader::start(db).await;
        let mut workers = Vec::new();
        for n in 0..SESSIONS {
            workers.push(TestWorker::start(db, &format!("w{n}-0"), 6).await);
        }
        Self {
            db,
            rng: StdRng::seed_from_u64(seed),
            model: Model::new(&first, &second),
            leader,
            operator: db.login(Role::Operator).await,
            workers,
            held: vec![Vec::new(); SESSIONS],
            ever: Vec::new(),
            gone: Vec::new(),
            lives: 0,
            log: Vec::new(),
        }
    }

    async fn go(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            let before = self.model.clone();
            self.step().await?;
            self.compare(&before).await?;
        }
        self.drain().await
    }

    async fn step(&mut self) -> Result<(), String> {
        let w = self.rng.random_range(0..SESSIONS);
        match self.rng.random_range(0..100) {
            0..22 => self.claim(w).await,
            22..46 => self.settle(w, End::Validated).await,
            46..53 => self.settle(w, End::Transient).await,
            53..55 => self.settle(w, End::Permanent).await,
            55..57 => self.settle(w, End::Host).await,
            57..61 => self.settle(w, End::Released).await,
            61..65 => self.settle_again().await,
            65..68 => self.kill(w).await,
            68..70 => self.sign_off(w).await,
            70..73 => self.reconcile(w).await,
            73..77 => self.scale().await,
            77..79 => self.pause().await,
            79..88 => self.request().await,
            88..92 => self.advance().await,
            _ => self.passes().await,
        }
    }

    async fn claim(&mut self, w: usize) -> Result<(), String> {
        let free = self.rng.random_range(1..4);
        self.workers[w].beat().await;
        let request = self.workers[w].next_request();
        let answer = self.workers[w]
            .try_claim(request, free)
            .await
            .map_err(|e| e.to_string())?;
        let Claimed::Leases { items, .. } = answer else {
            return Err("a living session is not active".to_owned());
        };
        self.log.push(format!(
            "w{w} claims {free}: {:?}",
            items.iter().map(|i| i.chunk_id.0).collect::<Vec<_>>()
        ));
        if items.len() > free as usize {
            return Err(format!(
                "{} chunks where {free} were asked for",
                items.len()
            ));
        }
        let session = self.workers[w].id().0;
        for item in items {
            let lease = Lease {
                session,
                fence: item.fence.0,
            };
            let input = item.inputs.first().map(|i| (i.chunk_id.0, i.generation));
            self.model.lease(item.chunk_id.0, lease, input)?;
            let stage = self.model.chunks[&item.chunk_id.0].stage;
            let limit = if self.model.paused[stage] {
                Some(0)
            } else {
                self.model.limits[stage]
            };
            if limit.is_some_and(|limit| self.model.running(stage) > limit) {
                return Err(format!(
                    "stage {stage} runs {} at limit {limit:?}",
                    self.model.running(stage)
                ));
            }
            self.held[w].push(item.clone());
            self.ever.push((session, item));
        }
        Ok(())
    }

    async fn settle(&mut self, w: usize, end: End) -> Result<(), String> {
        if self.held[w].is_empty() {
            return Ok(());
        }
        let at = self.rng.random_range(0..self.held[w].len());
        let item = self.held[w].swap_remove(at);
        self.log.push(format!(
            "w{w} settles {} fence {} as {end:?}",
            item.chunk_id, item.fence
        ));
        let answer = self.workers[w].settle(&item, result_of(&item, end)).await;
        let id = item.chunk_id.0;
        let lease = Lease {
            session: self.workers[w].id().0,
            fence: item.fence.0,
        };
        let expected = if self.model.chunks[&id].lease == Some(lease) {
            Settled::Applied
        } else {
            Settled::LeaseLost
        };
        if answer != expected {
            return Err(format!("{answer:?} where {expected:?} was due"));
        }
        if answer == Settled::Applied {
            self.model.end(id, end);
            self.read_retry(id).await?;
            self.model.apply_requests(Some(&[id]));
        }
        Ok(())
    }

    /// Something that was once leased is settled by a session that may have no right to it.
    async fn settle_again(&mut self) -> Result<(), String> {
        let Some((session, item)) = self.ever.choose(&mut self.rng).cloned() else {
            return Ok(());
        };
        let all: Vec<&TestWorker> = self.workers.iter().chain(&self.gone).collect();
        let by = *all.choose(&mut self.rng).unwrap();
        let chunk = &self.model.chunks[&item.chunk_id.0];
        if chunk
            .lease
            .is_some_and(|l| l.fence == item.fence.0 && l.session == by.id().0)
        {
            return Ok(());
        }
        let answer = by.settle(&item, validated(&item)).await;
        let recorded = chunk.published.contains(&item.fence.0) && session == by.id().0;
        let expected = if recorded {
            Settled::AlreadyApplied
        } else {
            Settled::LeaseLost
        };
        self.log.push(format!(
            "session {} settles {} fence {} of session {session} again",
            by.id(),
            item.chunk_id,
            item.fence
        ));
        if answer != expected {
            return Err(format!("{answer:?} where {expected:?} was due"));
        }
        Ok(())
    }

    async fn kill(&mut self, w: usize) -> Result<(), String> {
        let lost = self.model.leases_of(self.workers[w].id().0);
        self.log.push(format!("w{w} dies with {lost:?}"));
        let (dead, taken) = self.leader.bury(&self.workers[w]).await;
        if (dead, taken) != (1, lost.len() as i64) {
            return Err(format!("the sweep answered {dead} dead, {taken} taken"));
        }
        for id in &lost {
            self.model.end(*id, End::Lost);
        }
        self.model.apply_requests(Some(&lost));
        self.replace(w).await;
        Ok(())
    }

    async fn sign_off(&mut self, w: usize) -> Result<(), String> {
        let handed = self.model.leases_of(self.workers[w].id().0);
        self.log.push(format!("w{w} signs off with {handed:?}"));
        self.workers[w]
            .session
            .end("walk")
            .await
            .map_err(|e| e.to_string())?;
        self.hand_back(&handed);
        self.replace(w).await;
        Ok(())
    }

    fn hand_back(&mut self, ids: &[i64]) {
        for id in ids {
            self.model.end(*id, End::Released);
        }
        self.model.apply_requests(Some(ids));
    }

    async fn replace(&mut self, w: usize) {
        self.lives += 1;
        let new = TestWorker::start(self.db, &format!("w{w}-{}", self.lives), 6).await;
        self.gone.push(std::mem::replace(&mut self.workers[w], new));
        self.held[w].clear();
    }

    /// The worker forgets some of what it holds, as after a lost answer, and says so.
    async fn reconcile(&mut self, w: usize) -> Result<(), String> {
        let keep = self.rng.random_range(0..=self.held[w].len());
        self.held[w].truncate(keep);
        let held: Vec<(ChunkId, Fence)> =
            self.held[w].iter().map(|i| (i.chunk_id, i.fence)).collect();
        self.log.push(format!("w{w} says that it holds {held:?}"));
        let session = self.workers[w].id().0;
        let forgotten: Vec<i64> = self
            .model
            .leases_of(session)
            .into_iter()
            .filter(|id| !held.iter().any(|(chunk, _)| chunk.0 == *id))
            .collect();
        let lost = self.workers[w]
            .session
            .reconcile(&held)
            .await
            .map_err(|e| e.to_string())?;
        if !lost.is_empty() {
            return Err(format!("{lost:?} were named as lost"));
        }
        self.hand_back(&forgotten);
        Ok(())
    }

    async fn scale(&mut self) -> Result<(), String> {
        let stage = self.rng.random_range(0..2);
        let now = self.model.limits[stage];
        let changes = ["0", "1", "2", "5", "none", "+2", "-1", "50%"];
        let change = *changes.choose(&mut self.rng).unwrap();
        let relative = change.starts_with(['+', '-']) || change.ends_with('%');
        let new = match (change, now) {
            ("none", _) => None,
            ("+2", Some(now)) => Some(now + 2),
            ("-1", Some(now)) => Some(now.saturating_sub(1)),
            ("50%", Some(now)) => Some(now.div_ceil(2)),
            (number, _) => number.parse().ok(),
        };
        self.log.push(format!("stage {stage} is scaled {change}"));
        let answer = self
            .operator
            .query_one("select odf.scale($1, $2, 'walk')", &[&pool(stage), &change])
            .await;
        match (answer, relative && now.is_none()) {
            (Ok(_), false) => self.model.limits[stage] = new,
            (Err(_), true) => {}
            (answer, _) => return Err(format!("scale {change} from {now:?} answered {answer:?}")),
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), String> {
        let stage = self.rng.random_range(0..2);
        let on = !self.model.paused[stage];
        self.log.push(format!("stage {stage} paused: {on}"));
        self.operator
            .query("select odf.pause($1, $2, 'walk')", &[&pool(stage), &on])
            .await
            .map_err(|e| e.to_string())?;
        self.model.paused[stage] = on;
        Ok(())
    }

    async fn request(&mut self) -> Result<(), String> {
        let ids: Vec<i64> = self.model.chunks.keys().copied().collect();
        let id = *ids.choose(&mut self.rng).unwrap();
        let verb = *[Verb::Resubmit, Verb::Resubmit, Verb::Held, Verb::Cancelled]
            .choose(&mut self.rng)
            .unwrap();
        if self.model.shown(id) == verb.word() {
            return Ok(());
        }
        let allowed = self.model.may_request(id, verb);
        self.log.push(format!(
            "chunk {id} ({}) is to be {}",
            self.model.shown(id),
            verb.word()
        ));
        let sql = format!(
            "update odf.chunk set status = '{}', reason = 'walk {}' where chunk_id = {id}",
            verb.word(),
            self.log.len()
        );
        match (self.operator.execute(&sql, &[]).await, allowed) {
            (Ok(1), true) => {
                self.model.chunk(id).requests.push(verb);
                self.model.apply_requests(None);
                Ok(())
            }
            (Err(_), false) => Ok(()),
            (answer, _) => Err(format!("it answered {answer:?}")),
        }
    }

    async fn advance(&mut self) -> Result<(), String> {
        let by = *[1, 3, 6, 40, 4000].choose(&mut self.rng).unwrap();
        self.log.push(format!("{by} s pass"));
        self.db.advance(Duration::from_secs(by)).await;
        Ok(())
    }

    async fn passes(&mut self) -> Result<(), String> {
        self.log.push("the leader's passes".to_owned());
        let proof = &self.leader.proof;
        let before = self.now().await;
        proof.retry_due(1000).await.map_err(|e| e.to_string())?;
        let unsure = self.model.retry_due((before + self.now().await) / 2.0);
        for id in unsure {
            let row: String = self
                .db
                .get(
                    "select status::text from odf.chunk_state where chunk_id = $1",
                    &[&id],
                )
                .await;
            self.model.chunk(id).status = Status::of_word(&row).ok_or(row)?;
        }
        proof.promote().await.map_err(|e| e.to_string())?;
        self.model.apply_requests(None);
        self.leader.passes().await;
        // What another look in passes() might have retried is only what was unsure before.
        for (id, chunk) in &mut self.model.chunks {
            if chunk.status == Status::Failed {
                let row: String = self
                    .db
                    .get(
                        "select status::text from odf.chunk_state where chunk_id = $1",
                        &[id],
                    )
                    .await;
                if row != "failed" && chunk.retry_at - before < 2.0 {
                    chunk.status = Status::of_word(&row).ok_or(row)?;
                }
            }
        }
        Ok(())
    }

    async fn now(&self) -> f64 {
        self.db
            .scalar("select extract(epoch from odf.clock())::float8")
            .await
    }

    /// The database drew the time of a retry: it must lie within its band.
    async fn read_retry(&mut self, id: i64) -> Result<(), String> {
        if self.model.chunks[&id].status != Status::Failed {
            return Ok(());
        }
        let sql = "select extract(epoch from coalesce(retry_at, changed_at))::float8 from odf.chunk_state where chunk_id = $1";
        let at: f64 = self.db.get(sql, &[&id]).await;
        let wait = at - self.now().await;
        self.model.chunk(id).retry_at = at;
        if (-5.0..=MAX_BACKOFF).contains(&wait) {
            Ok(())
        } else {
            Err(format!("chunk {id} waits {wait} s"))
        }
    }

    /// Everything that the two can be compared by.
    async fn compare(&self, before: &Model) -> Result<(), String> {
        let rows = self
            .db
            .admin()
            .query(
                "select c.chunk_id, v.status::text, c.generation, c.attempt_no, c.charged, c.lost, l.session_id, l.fence,
                        array(select p.fence from odf.publication p where p.chunk_id = c.chunk_id order by p.generation)
                   from odf.chunk_state c join odf.chunk v using (chunk_id) left join odf.lease l using (chunk_id)
                  where v.dataset <> 'src'",
                &[],
            )
            .await
            .map_err(|e| e.to_string())?;
        if rows.len() != self.model.chunks.len() {
            return Err(format!("{} chunks", rows.len()));
        }
        for row in rows {
            let id: i64 = row.get(0);
            let chunk = &self.model.chunks[&id];
            let shown: String = row.get(1);
            let lease = row.get::<_, Option<i64>>(6).map(|session| Lease {
                session,
                fence: row.get(7),
            });
            let numbers: [i32; 4] = [row.get(2), row.get(3), row.get(4), row.get(5)];
            let published: Vec<i64> = row.get(8);
            let wanted = [chunk.generation, chunk.ended, chunk.charged, chunk.lost];
            if shown != self.model.shown(id)
                || lease != chunk.lease
                || numbers != wanted
                || published != chunk.published
            {
                return Err(format!(
                    "chunk {id} is {shown} {numbers:?} {lease:?} {published:?}; the model says {} {wanted:?} {:?} {:?}",
                    self.model.shown(id),
                    chunk.lease,
                    chunk.published
                ));
            }
            if !published.windows(2).all(|pair| pair[0] < pair[1]) {
                return Err(format!("chunk {id} was published by {published:?}"));
            }
        }
        for stage in 0..2 {
            let (was, is) = (before.running(stage), self.model.running(stage));
            let limit = if self.model.paused[stage] {
                Some(0)
            } else {
                self.model.limits[stage]
            };
            if limit.is_some_and(|limit| is > limit && is > was) {
                return Err(format!(
                    "stage {stage} went from {was} to {is} at limit {limit:?}"
                ));
            }
        }
        self.compare_counts().await
    }

    async fn compare_counts(&self) -> Result<(), String> {
        let mut wanted: BTreeMap<(usize, &str), i64> = BTreeMap::new();
        for chunk in self.model.chunks.values() {
            *wanted
                .entry((chunk.stage, chunk.status.word()))
                .or_default() += 1;
        }
        let rows = self
            .db
            .admin()
            .query(
                "select case d.name when 'mid' then 0 else 1 end, p.status::text, p.n
                   from odf.progress_now p join odf.data_set d using (data_set_id) where d.name <> 'src' and p.n <> 0",
                &[],
            )
            .await
            .map_err(|e| e.to_string())?;
        let found: BTreeMap<(usize, String), i64> = rows
            .iter()
            .map(|row| ((row.get::<_, i32>(0) as usize, row.get(1)), row.get(2)))
            .collect();
        let wanted: BTreeMap<(usize, String), i64> = wanted
            .into_iter()
            .map(|((stage, word), n)| ((stage, word.to_owned()), n))
            .collect();
        if found != wanted {
            return Err(format!("the counts are {found:?}, really {wanted:?}"));
        }
        let bugs = self.db.bugs().await;
        if bugs.is_empty() {
            Ok(())
        } else {
            Err(format!("repairs were needed: {bugs:?}"))
        }
    }

    /// Everything is opened, asked for again and run to its end.
    async fn drain(&mut self) -> Result<(), String> {
        for stage in 0..2 {
            for sql in [
                "select odf.scale($1, 'none', 'drain')",
                "select odf.pause($1, false, 'drain')",
            ] {
                self.operator
                    .query(sql, &[&pool(stage)])
                    .await
                    .map_err(|e| e.to_string())?;
            }
        }
        for w in 0..SESSIONS {
            self.workers[w]
                .session
                .end("drain")
                .await
                .map_err(|e| e.to_string())?;
        }
        let open = "status in ('held', 'cancelled', 'exhausted')";
        self.operator
            .execute(&format!("update odf.chunk set status = 'resubmit', reason = 'drain' where {open} and dataset <> 'src'"), &[])
            .await
            .map_err(|e| e.to_string())?;
        let last = TestWorker::start(self.db, "last", 6).await;
        for _ in 0..20 {
            self.db.advance(Duration::from_secs(10)).await;
            self.leader.passes().await;
            last.drain(6).await;
            if self.db.count("odf.chunk where status <> 'validated'").await == 0 {
                let twice: i64 = self
                    .db
                    .count("odf.chunk_state c where generation <> (select count(*) from odf.publication p where p.chunk_id = c.chunk_id) and generation > 1")
                    .await;
                let bugs = self.db.bugs().await;
                return if twice == 0 && bugs.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{twice} chunks, {bugs:?}"))
                };
            }
        }
        let left: Vec<String> = self
            .db
            .column("select chunk_id || ' ' || status from odf.chunk where status <> 'validated'")
            .await;
        Err(format!("not drained: {left:?}"))
    }
}

fn pool(stage: usize) -> &'static str {
    ["extract", "load"][stage]
}

fn result_of(item: &WorkItem, end: End) -> AttemptResult {
    match end {
        End::Validated => validated(item),
        End::Transient | End::Lost => failed(FailureClass::Transient),
        End::Permanent => failed(FailureClass::Permanent),
        End::Host => failed(FailureClass::Host),
        End::Released => AttemptResult::bare(Outcome::Released {
            reason: "walk".to_owned(),
        }),
    }
}
