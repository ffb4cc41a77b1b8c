//! What a chunk was made from and what was made from it, generation by generation, as a tree.
//!
//! Rests on publications and edges alone, so that pruned attempts change nothing. A level of the
//! tree is one statement; the whole is bounded by depth, by width and by a number of nodes.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::chunk::Found;
use super::error::ReadError;

/// Chunks in a tree at most, either way.
const MOST: usize = 2000;

/// A chunk in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// `dataset/key`.
    pub name: String,
    /// Upwards the generation of this chunk that was read; downwards the generation of the one above
    /// that this chunk's newest generation read. `None` where it was not read chunk by chunk.
    pub read: Option<i32>,
    /// Its newest generation; 0 where there is none.
    pub generation: i32,
    /// The state that people see.
    pub status: String,
    /// Its newest generation was made from superseded data.
    pub stale: bool,
    /// Not stale, but something that it rests on is stale or is being made again.
    pub will_be_stale: bool,
    /// Its place in the tree was filled before; what hangs on it stands there.
    pub shown_before: bool,
    /// When the generation meant was published; `None` for a source.
    pub published_at: Option<DateTime<Utc>>,
    /// By which attempt.
    pub attempt: Option<i32>,
    /// By whom.
    pub worker: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// Data sets that are taken whole, upwards, or that take its own whole, downwards.
    pub whole: Vec<Whole>,
    /// The next level.
    pub chunks: Vec<Node>,
    /// Chunks of the next level that are not shown.
    pub more: i64,
    #[serde(skip)]
    id: i64,
}

/// A data set taken whole.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct Whole {
    #[serde(skip)]
    of_n: i64,
    /// The data set.
    pub dataset: String,
    /// Its chunks; `None` before it is planned.
    pub chunks: Option<i64>,
    /// The job that takes a data set whole.
    pub job: String,
    /// Upwards: its publications when it was read.
    pub read: Option<i64>,
    /// Upwards: its publications now.
    pub now: Option<i64>,
    /// How many of its chunks are stale.
    pub stale: i64,
    #[serde(skip)]
    only_chunk: Option<i64>,
}

#[derive(FromRow)]
struct Row {
    of_n: i64,
    chunk_id: i64,
    dataset: String,
    key: String,
    read: Option<i32>,
    now: i32,
    status: String,
    stale_since: Option<DateTime<Utc>>,
    published_at: Option<DateTime<Utc>>,
    attempt: Option<i32>,
    worker: Option<String>,
    location: Option<String>,
    total: i64,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// How far a tree reaches.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Levels.
    pub depth: u32,
    /// Chunks of a level for each of the one before.
    pub width: i64,
}

/// The chunk itself, without what it was made from.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn root(db: &PgPool, found: &Found) -> Result<Node, ReadError> {
    let row: Row = sqlx::query_as(
        "select 1::bigint as of_n, s.chunk_id, $2 as dataset, $3 as key, null::int as read, s.generation as now, \
                odf.shown_status(s.chunk_id, s.status)::text as status, s.stale_since, p.published_at, p.attempt, p.worker, p.location, 1::bigint as total \
           from odf.chunk_state s left join odf.publication p on p.chunk_id = s.chunk_id and p.generation = s.generation \
          where s.chunk_id = $1",
    )
    .bind(found.chunk_id)
    .bind(&found.dataset)
    .bind(&found.key)
    .fetch_one(db)
    .await?;
    Ok(node(row))
}

/// What a chunk was made from: each input at the generation that was read.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn up(db: &PgPool, root: &Node, reach: Reach) -> Result<Node, ReadError> {
    let mut tree = grow(db, root, reach, Way::Up).await?;
    rests_on(&mut tree);
    Ok(tree)
}

/// What was made from a chunk.
///
/// # Errors
/// [`ReadError`] as the server answers.
pub async fn down(db: &PgPool, root: &Node, reach: Reach) -> Result<Node, ReadError> {
    let mut tree = grow(db, root, reach, Way::Down).await?;
    let changes = changes(&tree);
    for chunk in &mut tree.chunks {
        carry(chunk, changes);
    }
    Ok(tree)
}

fn node(row: Row) -> Node {
    Node {
        name: format!("{}/{}", row.dataset, row.key),
        read: row.read,
        generation: row.now,
        status: row.status,
        stale: row.stale_since.is_some(),
        will_be_stale: false,
        shown_before: false,
        published_at: row.published_at,
        attempt: row.attempt,
        worker: row.worker,
        location: row.location,
        whole: Vec::new(),
        chunks: Vec::new(),
        more: 0,
        id: row.chunk_id,
    }
}

/// Fills a tree level by level.
async fn grow(db: &PgPool, root: &Node, reach: Reach, way: Way) -> Result<Node, ReadError> {
    // Flat first, so that a level is one statement: 0 is the root, n the n-th of those below it.
    let mut root = root.clone();
    let mut below: Vec<(Node, usize)> = Vec::new();
    let mut seen = HashSet::from([root.id]);
    let mut level = vec![0_usize];
    for _ in 0..reach.depth {
        if level.is_empty() || below.len() >= MOST {
            break;
        }
        let of = |at: usize| at.checked_sub(1).map_or(&root, |n| &below[n].0);
        let ids: Vec<i64> = level.iter().map(|at| of(*at).id).collect();
        let generations: Vec<i32> = level.iter().map(|at| meant(of(*at), way)).collect();
        let mut rows = step(db, way, &ids, &generations, reach.width).await?;
        for whole in wholes(db, way, &ids, &generations).await? {
            match (whole.only_chunk, place(&level, whole.of_n)) {
                (Some(id), _) => rows.push(single(db, whole.of_n, id).await?),
                (None, 0) => root.whole.push(whole),
                (None, at) => below[at - 1].0.whole.push(whole),
            }
        }
        let mut next = Vec::new();
        for row in rows {
            let at = place(&level, row.of_n);
            let parent = match at {
                0 => &mut root,
                at => &mut below[at - 1].0,
            };
            parent.more = parent.more.max(row.total);
            let mut child = node(row);
            child.shown_before = !seen.insert(child.id);
            let new = !child.shown_before;
            below.push((child, at));
            if new {
                next.push(below.len());
            }
        }
        level = next;
    }
    Ok(assemble(root, below))
}

/// The generation of a node whose making the next step is about.
fn meant(node: &Node, way: Way) -> i32 {
    match (way, node.read) {
        (Way::Up, Some(read)) => read,
        _ => node.generation,
    }
}

/// The node that a row's ordinality, from 1, stands for.
fn place(level: &[usize], of_n: i64) -> usize {
    let n = usize::try_from(of_n - 1).unwrap_or(0);
    level[n.min(level.len() - 1)]
}

/// From the last to the first, so that every node is whole when it is given to its parent.
fn assemble(root: Node, mut below: Vec<(Node, usize)>) -> Node {
    let close = |node: &mut Node| {
        node.chunks.reverse();
        let shown = i64::try_from(node.chunks.len()).unwrap_or(i64::MAX);
        node.more = (node.more - shown).max(0);
    };
    let mut root = root;
    while let Some((mut node, parent)) = below.pop() {
        close(&mut node);
        match parent.checked_sub(1).and_then(|at| below.get_mut(at)) {
            Some((above, _)) => above.chunks.push(node),
            None => root.chunks.push(node),
        }
    }
    close(&mut root);
    root
}

async fn step(
    db: &PgPool,
    way: Way,
    ids: &[i64],
    generations: &[i32],
    width: i64,
) -> Result<Vec<Row>, ReadError> {
    let rows = match way {
        Way::Up => {
            sqlx::query_as(include_str!("lineage_up.sql"))
                .bind(ids)
                .bind(generations)
                .bind(width)
                .fetch_all(db)
                .await?
        }
        Way::Down => {
            sqlx::query_as(include_str!("lineage_down.sql"))
                .bind(ids)
                .bind(width)
                .fetch_all(db)
                .await?
        }
    };
    Ok(rows)
}

async fn wholes(
    db: &PgPool,
    way: Way,
    ids: &[i64],
    generations: &[i32],
) -> Result<Vec<Whole>, ReadError> {
    Ok(sqlx::query_as(include_str!("lineage_whole.sql"))
        .bind(ids)
        .bind(way == Way::Down)
        .bind(generations)
        .fetch_all(db)
        .await?)
}

/// The one chunk of a data set that takes another whole.
async fn single(db: &PgPool, of_n: i64, chunk_id: i64) -> Result<Row, ReadError> {
    Ok(sqlx::query_as(
        "select $1::bigint as of_n, k.chunk_id, x.name as dataset, k.key, null::int as read, s.generation as now, \
                odf.shown_status(k.chunk_id, s.status)::text as status, s.stale_since, p.published_at, p.attempt, p.worker, p.location, 0::bigint as total \
           from odf.data_chunk k join odf.data_set x using (data_set_id) join odf.chunk_state s using (chunk_id) \
           left join odf.publication p on p.chunk_id = k.chunk_id and p.generation = s.generation \
          where k.chunk_id = $2",
    )
    .bind(of_n)
    .bind(chunk_id)
    .fetch_one(db)
    .await?)
}

/// Whether what hangs below a chunk will have to be made again: it is stale, will be, or is being made.
fn changes(node: &Node) -> bool {
    node.stale
        || node.will_be_stale
        || (node.generation > 0 && !matches!(node.status.as_str(), "validated" | "complete"))
}

/// Downwards: what is made from something that changes will be stale.
fn carry(node: &mut Node, above: bool) {
    node.will_be_stale = above && !node.stale && node.generation > 0;
    let below = changes(node);
    for chunk in &mut node.chunks {
        carry(chunk, below);
    }
}

/// Upwards: what rests on something that changes will be stale. Answers whether this node changes.
fn rests_on(node: &mut Node) -> bool {
    let whole = node.whole.iter().any(|set| set.stale > 0);
    let below = node
        .chunks
        .iter_mut()
        .fold(whole, |any, chunk| rests_on(chunk) || any);
    node.will_be_stale = below && !node.stale && node.generation > 0;
    changes(node)
}

#[cfg(test)]
mod tests {
    use super::{Node, assemble, carry, changes, rests_on};

    fn node(name: &str, status: &str, stale: bool) -> Node {
        Node {
            name: name.to_owned(),
            read: None,
            generation: 1,
            status: status.to_owned(),
            stale,
            will_be_stale: false,
            shown_before: false,
            published_at: None,
            attempt: None,
            worker: None,
            location: None,
            whole: Vec::new(),
            chunks: Vec::new(),
            more: 0,
            id: 0,
        }
    }

    #[test]
    fn a_flat_list_becomes_a_tree_in_its_order_and_counts_what_is_not_shown() {
        let mut root = node("r", "validated", false);
        root.more = 5;
        let named = |name: &str| node(name, "validated", false);
        let below = vec![
            (named("a"), 0),
            (named("b"), 0),
            (named("a1"), 1),
            (named("a2"), 1),
        ];
        let tree = assemble(root, below);
        let names = |nodes: &[Node]| nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&tree.chunks), ["a", "b"]);
        assert_eq!(names(&tree.chunks[0].chunks), ["a1", "a2"]);
        assert_eq!(tree.more, 3);
    }

    #[test]
    fn staleness_goes_on_to_what_is_made_from_it() {
        let mut top = node("mid", "running", false);
        let mut middle = node("dst", "validated", false);
        middle.chunks.push(node("total", "validated", false));
        top.chunks.push(middle);
        let from = changes(&top);
        for chunk in &mut top.chunks {
            carry(chunk, from);
        }
        assert!(top.chunks[0].will_be_stale && top.chunks[0].chunks[0].will_be_stale);

        let mut total = node("total", "validated", false);
        total.chunks.push(node("dst", "validated", true));
        total.chunks.push(node("other", "validated", false));
        rests_on(&mut total);
        assert!(total.will_be_stale);
        assert!(!total.chunks[0].will_be_stale, "it is stale already");
        assert!(!total.chunks[1].will_be_stale);
    }
}
