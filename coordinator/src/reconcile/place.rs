//! Where a data set can be looked at from here, its secrets resolved from this process's own
//! environment.

use std::path::PathBuf;

use common::endpoint::SecretString;

use crate::planner::Planner;
use crate::read::reconciliation::Station;
use crate::split::Endpoint;

/// A table of a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct TablePlace {
    /// The database.
    pub url: SecretString,
    /// The table, as declared.
    pub table: String,
    /// Whose table it is, for the session's name and messages.
    pub dataset: String,
}

/// Where a data set is, as far as this process can look.
#[derive(Debug, Clone)]
pub enum Place {
    /// A table.
    Table(TablePlace),
    /// Files below a root that this host may or may not have.
    Files {
        /// The root.
        root: PathBuf,
    },
    /// Nowhere that can be looked at from here, and why.
    Nowhere(String),
}

/// Resolves where a data set is.
pub async fn of(planner: &Planner, station: &Station) -> Place {
    let name = &station.name;
    let Some(connection) = &station.connection else {
        return Place::Nowhere(format!("the connection of {name} is not declared any more"));
    };
    match planner.endpoint(connection).await {
        Ok(Endpoint::Postgres { url }) => match &station.spec.at.table {
            Some(table) => Place::Table(TablePlace {
                url,
                table: table.clone(),
                dataset: name.clone(),
            }),
            None => Place::Nowhere(format!("{name} is in a database and names no table")),
        },
        Ok(Endpoint::Files { root }) => Place::Files { root },
        Ok(Endpoint::Other) => Place::Nowhere(format!(
            "{name} is behind a connection that only scripts understand"
        )),
        Err(error) => Place::Nowhere(format!("connection of {name}: {error:#}")),
    }
}
