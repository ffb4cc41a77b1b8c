//! Planning a data set whose inputs are found by time or by an expression: its inputs' plans read, its
//! edges drawn, plan and edges stored.
//!
//! Which chunk feeds which is not decided here but in `common::flow::link`, so that `coordinator plan`
//! shows the same without a database.

use std::sync::Arc;

use async_trait::async_trait;
use common::calendar::Calendar;
use common::domain::NewChunk;
use common::flow::link::{Figures, LinkError, Links, Side, calendars, link};
use common::flow::topology::Topology;
use common::store::link::PlannedSide;
use common::store::plan::Unplanned;
use common::store::{ControlDb, LeaderProof, StoreError};

use crate::planner::{PlanSink, Planner};
use crate::split::{BATCH, ChunkSink};

/// Chunks read and edges written at once.
const PAGE: usize = 20_000;

/// How it ended where the store took part: what to say, or why it cannot be planned as things are.
pub type Linked = Result<String, String>;

/// Keeps every chunk.
#[derive(Debug, Default)]
pub struct Gathered(pub Vec<NewChunk>);

#[async_trait]
impl ChunkSink for Gathered {
    async fn push(&mut self, batch: Vec<NewChunk>) -> anyhow::Result<()> {
        self.0.extend(batch);
        Ok(())
    }
}

/// An input with its chunks and their identities.
#[derive(Debug)]
struct Input {
    side: PlannedSide,
    calendar: Option<Calendar>,
    chunks: Vec<NewChunk>,
    ids: Vec<i64>,
}

/// Writes the chunks and edges of a plan that was begun, and seals it.
///
/// # Errors
/// What the store said; the plan is then begun again.
pub async fn plan_linked(
    planner: &Planner,
    proof: &LeaderProof,
    set: &Unplanned,
    plan: i64,
) -> Result<Linked, StoreError> {
    let Some(inputs) = inputs(proof.db(), set).await? else {
        return Ok(Err("an input of it has no plan any more".to_owned()));
    };
    let own = match own_chunks(planner, set).await {
        Ok(own) => own,
        Err(text) => return Ok(Err(text)),
    };
    let inputs = Arc::new(inputs);
    let (drawing, name) = (Arc::clone(&inputs), set.name.clone());
    // A million windows take a second or two of one core.
    let drawn = tokio::task::spawn_blocking(move || draw(&name, own, &drawing)).await;
    let links = match drawn {
        Ok(Ok(links)) => links,
        Ok(Err(error)) => return Ok(Err(error.to_string())),
        Err(error) => return Ok(Err(format!("drawing its edges panicked: {error}"))),
    };
    store(proof, set, plan, &inputs, links).await
}

async fn own_chunks(planner: &Planner, set: &Unplanned) -> Result<Option<Vec<NewChunk>>, String> {
    if set.spec.partition.is_none() {
        return Ok(None);
    }
    let mut sink = Gathered::default();
    match planner.split_made(&set.name, &set.spec, &mut sink).await {
        Ok(_) => Ok(Some(sink.0)),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn draw(output: &str, own: Option<Vec<NewChunk>>, inputs: &[Input]) -> Result<Links, LinkError> {
    let sides: Vec<Side<'_>> = inputs
        .iter()
        .map(|input| Side {
            dataset: &input.side.name,
            mapping: &input.side.mapping,
            calendar: input.calendar.as_ref(),
            chunks: &input.chunks,
        })
        .collect();
    link(output, own, &sides)
}

/// The inputs with all of their chunks: memory grows with them.
async fn inputs(db: &ControlDb, set: &Unplanned) -> Result<Option<Vec<Input>>, StoreError> {
    let Some(sides) = db.plan_sides(set.data_set_id).await? else {
        return Ok(None);
    };
    let flow = db.current_flow(&set.flow).await?.map(|(_, flow)| flow);
    // An applied flow has no circle.
    let topology = flow.as_ref().and_then(|flow| Topology::of(flow).ok());
    let known = flow.as_ref().zip(topology.as_ref());
    let known = known.map(|(flow, topology)| calendars(flow, topology));
    let mut inputs = Vec::new();
    for side in sides {
        let calendar = known
            .as_ref()
            .and_then(|known| known.get(side.name.as_str()));
        let (mut chunks, mut ids) = (Vec::new(), Vec::new());
        loop {
            let after = i64::try_from(ids.len()).unwrap_or(i64::MAX);
            let page = db.plan_chunks(side.plan_id, after, PAGE as i64).await?;
            let last = page.len() < PAGE;
            for planned in page {
                ids.push(planned.chunk_id);
                chunks.push(planned.chunk);
            }
            if last {
                break;
            }
        }
        inputs.push(Input {
            calendar: calendar.copied().copied(),
            side,
            chunks,
            ids,
        });
    }
    Ok(Some(inputs))
}

async fn store(
    proof: &LeaderProof,
    set: &Unplanned,
    plan: i64,
    inputs: &[Input],
    links: Links,
) -> Result<Linked, StoreError> {
    let ordinal = |output: usize| i64::try_from(output + 1).unwrap_or(i64::MAX);
    let mut sink = PlanSink::new(proof, plan);
    for batch in links.chunks.chunks(BATCH) {
        if let Err(error) = sink.push(batch.to_vec()).await {
            return match sink.failed() {
                Some(StoreError::Refused(why)) => Ok(Err(why.to_string())),
                Some(failed) => Err(failed.clone()),
                None => Ok(Err(format!("{error:#}"))),
            };
        }
    }
    for (number, input) in inputs.iter().enumerate() {
        let edges: Vec<_> = links.edges.iter().filter(|e| e.side == number).collect();
        for page in edges.chunks(PAGE) {
            let ordinals: Vec<i64> = page.iter().map(|edge| ordinal(edge.output)).collect();
            let ids: Vec<i64> = page.iter().map(|edge| input.ids[edge.input]).collect();
            let mapping = input.side.mapping.word();
            proof.add_edges(plan, mapping, &ordinals, &ids).await?;
        }
        let gaps: Vec<_> = links.gaps.iter().filter(|g| g.side == number).collect();
        for page in gaps.chunks(PAGE) {
            let ordinals: Vec<i64> = page.iter().map(|gap| ordinal(gap.output)).collect();
            let wanted: Vec<String> = page.iter().map(|gap| gap.wanted.clone()).collect();
            let is_key: Vec<bool> = page.iter().map(|gap| gap.is_key).collect();
            proof
                .add_gaps(plan, &input.side, (&ordinals, &wanted, &is_key))
                .await?;
        }
    }
    let notes: Vec<String> = links.figures.iter().flat_map(notes).collect();
    let plans: Vec<i64> = inputs.iter().map(|input| input.side.plan_id).collect();
    let written = sink.written();
    proof.seal_linked(plan, written, &notes, &plans).await?;
    let missing = links.gaps.len();
    if missing > 0 {
        tracing::warn!(dataset = %set.name, missing, "inputs that no plan has; their chunks wait for them");
    }
    Ok(Ok(format!(
        "{written} chunks planned: {}",
        notes.join("; ")
    )))
}

/// What to know about one input, in sentences.
#[must_use]
pub fn notes(figures: &Figures) -> Vec<String> {
    let Figures {
        dataset,
        min,
        max,
        gaps,
        unused,
    } = figures;
    let each = if min == max {
        format!("{min}")
    } else {
        format!("{min} to {max}")
    };
    let mut notes = vec![format!("{each} chunks of {dataset} in each")];
    if *gaps > 0 {
        notes.push(format!(
            "{gaps} chunks that are needed of {dataset} are not in its plan: what needs them waits"
        ));
    }
    if *unused > 0 {
        notes.push(format!("{unused} chunks of {dataset} are in none"));
    }
    notes
}
