//! `explain`: everything about one chunk, data set or pool, in plain words.

mod card;
pub mod chunk;
pub mod data_set;
pub mod pool;
pub mod retired;

use sqlx::PgPool;

use super::Session;
use super::failure::{Exit, Failure};
use super::selector::Name;
use crate::read::chunk::{Found, find_anywhere};
use crate::read::{ReadError, pools};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A chunk (orders/00042), a data set or a pool
    #[arg(value_name = "CHUNK|DATASET|POOL")]
    pub name: Name,
    /// The chunk of that name in this plan of its data set, where a later plan has one as well
    #[arg(long, value_name = "VERSION")]
    pub plan: Option<i32>,
}

/// Finds a chunk by a name that must have a key.
///
/// # Errors
/// Where the name is that of a data set, or nothing is there.
pub(crate) async fn named_chunk(
    db: &PgPool,
    flow: Option<&str>,
    name: &Name,
) -> Result<Found, Failure> {
    let Some(key) = &name.key else {
        return Err(Failure::usage(format!(
            "expected a chunk such as {0}/00042, found {0:?}",
            name.dataset
        ))
        .hint(format!("coordinator chunks {}", name.dataset)));
    };
    let flow = name.flow.as_deref().or(flow);
    Ok(crate::read::chunk::find(db, flow, &name.dataset, key).await?)
}

/// Runs `explain`.
///
/// # Errors
/// As the server answers, or where nothing has that name.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let db = session.db().await?;
    let flow = args
        .name
        .flow
        .clone()
        .or_else(|| session.global.flow.clone());
    if let Some(key) = &args.name.key {
        let set = &args.name.dataset;
        let found = find_anywhere(&db, flow.as_deref(), set, key, args.plan).await?;
        if found.retired {
            let explained = retired::explain(&db, found).await?;
            session.out.show(&explained)?;
        } else {
            let explained = chunk::explain(&db, found).await?;
            session.out.show(&explained)?;
        }
        return Ok(Exit::Ok);
    }
    let name = &args.name.dataset;
    match crate::read::data_set::find(&db, flow.as_deref(), name).await {
        Ok(found) => {
            let explained = data_set::explain(&db, found).await?;
            session.out.show(&explained)?;
        }
        Err(ReadError::NotFound { hint, .. }) => {
            let mut found = pools::all(&db, flow.as_deref(), Some(name)).await?;
            let (Some(pool), more) = (found.pop(), !found.is_empty()) else {
                return Err(nothing(&db, flow.as_deref(), name, hint).await?);
            };
            if more {
                return Err(
                    Failure::usage(format!("several flows have a pool named {name:?}"))
                        .hint("name one with --flow"),
                );
            }
            let explained = pool::explain(&db, pool).await?;
            session.out.show(&explained)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Ok)
}

async fn nothing(
    db: &PgPool,
    flow: Option<&str>,
    name: &str,
    sets: Option<String>,
) -> Result<Failure, Failure> {
    let pools = pools::all(db, flow, None).await?;
    let names: Vec<&str> = pools
        .iter()
        .map(|pool| pool.name.as_str())
        .take(20)
        .collect();
    let mut hint = sets.unwrap_or_default();
    if !names.is_empty() {
        hint.push_str(&format!("; pools: {}", names.join(", ")));
    }
    Ok(Failure::new(
        Exit::NotFound,
        format!("no data set or pool named {name:?}"),
    )
    .hint(hint))
}
