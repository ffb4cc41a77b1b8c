//! TPC-H `lineitem`: its table, its rows made by `tpchgen` and loaded by COPY, its fingerprint.

use std::fmt::Write as _;
use std::io::Cursor;

use anyhow::{Context as _, Result};
use common::endpoint::PgSession;
use futures_util::SinkExt as _;
use tokio::sync::mpsc;
use tpchgen::csv::LineItemCsv;
use tpchgen::generators::LineItemGenerator;

/// The table as TPC-H declares it, without its foreign keys.
pub(crate) const TABLE: &str = "create table lineitem (
    l_orderkey      bigint         not null,
    l_partkey       bigint         not null,
    l_suppkey       bigint         not null,
    l_linenumber    integer        not null,
    l_quantity      numeric(15, 2) not null,
    l_extendedprice numeric(15, 2) not null,
    l_discount      numeric(15, 2) not null,
    l_tax           numeric(15, 2) not null,
    l_returnflag    char(1)        not null,
    l_linestatus    char(1)        not null,
    l_shipdate      date           not null,
    l_commitdate    date           not null,
    l_receiptdate   date           not null,
    l_shipinstruct  char(25)       not null,
    l_shipmode      char(10)       not null,
    l_comment       varchar(44)    not null
)";

/// Its key; in the source it is made after the rows, which is faster.
pub(crate) const KEY: &str = "alter table lineitem add primary key (l_orderkey, l_linenumber)";

/// Rows are handed to the connection in pieces of about this many bytes.
const PIECE: usize = 256 * 1024;

/// A table's rows as two numbers that do not depend on their order.
///
/// The sum of 64-bit hashes sees what an exclusive or would hide, such as a row loaded twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) rows: i64,
    pub(crate) checksum: String,
}

/// Makes the table and fills it. Gives the number of rows.
pub(crate) async fn load(session: &PgSession, scale_factor: f64) -> Result<u64> {
    session.batch_execute(TABLE).await?;
    let (send, mut pieces) = mpsc::channel(4);
    // The generator computes without pause, so it has a thread of its own. It ends when we do.
    let generator = tokio::task::spawn_blocking(move || generate(scale_factor, &send));
    let sink = session
        .copy_in::<_, Cursor<Vec<u8>>>("copy lineitem from stdin (format csv)")
        .await?;
    let mut sink = std::pin::pin!(sink);
    while let Some(piece) = pieces.recv().await {
        sink.feed(Cursor::new(piece)).await?;
    }
    let rows = sink.finish().await?;
    generator.await.context("generate lineitem")?;
    session.batch_execute(KEY).await?;
    session.batch_execute("vacuum analyze lineitem").await?;
    Ok(rows)
}

/// Sends the rows as CSV. Stops early when nobody listens any more.
fn generate(scale_factor: f64, send: &mpsc::Sender<Vec<u8>>) {
    let mut text = String::with_capacity(PIECE + 1024);
    for item in LineItemGenerator::new(scale_factor, 1, 1).iter() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", LineItemCsv::new(item));
        if text.len() >= PIECE {
            let piece = std::mem::replace(&mut text, String::with_capacity(PIECE + 1024));
            if send.blocking_send(piece.into_bytes()).is_err() {
                return;
            }
        }
    }
    // Nobody to listen is no error here either.
    let _ = send.blocking_send(text.into_bytes());
}

/// Counts and hashes all rows of the table, by the server.
pub(crate) async fn fingerprint(session: &PgSession) -> Result<Fingerprint> {
    let row = session
        .query_one(
            "select count(*), coalesce(sum(hashtextextended(l::text, 0)::numeric), 0)::text from lineitem l",
            &[],
        )
        .await
        .context("compute the checksum of lineitem")?;
    Ok(Fingerprint {
        rows: row.get(0),
        checksum: row.get(1),
    })
}
