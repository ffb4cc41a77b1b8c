//! The command line of `coordinator`: the tree of commands, their shared options, one file each.
//!
//! A command asks or orders through `read` and `operate` and hands a value to `Output`; only this
//! file maps how it ended to an exit code.

pub mod apply;
pub mod approve;
pub mod certify;
pub mod chunks;
pub mod completions;
mod daemon;
pub mod dev;
pub mod drain;
pub mod events;
pub mod example;
pub mod explain;
pub mod failure;
pub mod failures;
pub mod init;
pub mod lineage;
pub mod logs;
pub mod operate;
pub mod output;
pub mod pause;
pub mod plan;
pub mod pools;
pub mod postmortem;
pub mod reconcile;
pub mod replan;
pub mod request;
pub mod scale;
pub mod selector;
pub mod serve;
pub mod stale;
pub mod status;
mod until;
pub mod wait;
pub mod words;
pub mod workers;

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand};
use sqlx::PgPool;

pub use failure::{Exit, Failure};
pub use output::{Format, Output};

/// Runs data migrations on a pool of workers and says where they stand.
#[derive(Debug, Parser)]
#[command(
    name = "coordinator",
    version,
    about,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The control database, for example postgresql://ann@db/odf (better without a password)
    #[arg(
        long,
        env = "ODF_DATABASE_URL",
        hide_env_values = true,
        global = true,
        value_name = "URL"
    )]
    pub database_url: Option<DatabaseUrl>,
    /// Lines for people, more columns, or JSON
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Only this flow
    #[arg(long, global = true, value_name = "FLOW")]
    pub flow: Option<String>,
    /// Say nothing beside the answer
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// A URL that may hold a password and is therefore never printed.
#[derive(Clone)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL itself, for connecting only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(***)")
    }
}

/// The commands.
#[allow(
    missing_docs,
    reason = "commands without a line here are described where their arguments are"
)]
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::InitArgs),
    Dev(dev::DevArgs),
    Serve(serve::ServeArgs),
    Plan(plan::PlanArgs),
    Apply(apply::ApplyArgs),
    Replan(replan::Args),
    /// Where every data set stands, how fast it goes and what keeps it
    Status(status::Args),
    /// List chunks
    Chunks(chunks::Args),
    /// Everything about one chunk, data set or pool: where it stands and why
    Explain(explain::Args),
    /// What a chunk was made from and what was made from it, generation by generation
    Lineage(lineage::Args),
    /// What was made from superseded data, and what repairs it
    Stale(stale::Args),
    /// The last lines of a chunk's log
    Logs(logs::Args),
    /// What failed, grouped by cause
    Failures(failures::Args),
    /// The story of an outage as Markdown: causes, chunks, actions, the five questions
    Postmortem(postmortem::Args),
    Reconcile(reconcile::Args),
    Certify(certify::Args),
    /// Workers and what they run
    Workers(workers::Args),
    /// Pools, their limits and what runs under them
    Pools(pools::Args),
    /// What happened, newest last
    Events(events::Args),
    /// Change how much of a pool may run at once, or how much a worker takes
    Scale(scale::Args),
    /// Start nothing new of a pool, a job, a data set or all
    Pause(pause::PauseArgs),
    /// Take back a pause
    Resume(pause::ResumeArgs),
    /// Run chunks again
    #[command(visible_alias = "retry")]
    Resubmit(request::ResubmitArgs),
    /// Set chunks aside until they are resubmitted
    Hold(request::HoldArgs),
    /// End chunks for good
    Cancel(request::CancelArgs),
    /// Let consumers take published chunks that wait for a person's approval
    Approve(approve::Args),
    /// Let a worker finish what it runs and take nothing new
    Drain(drain::Args),
    /// Print or write a flow to start from
    Example(example::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// The tree of commands, for completions and documentation.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// One run of the command line: its options, its streams and, once asked for, its database.
#[derive(Debug)]
pub struct Session {
    /// Options of every command.
    pub global: Global,
    /// Where answers go.
    pub out: Output,
    db: Option<PgPool>,
}

impl Session {
    /// The control database's URL, for connecting only.
    ///
    /// # Errors
    /// Where none is named.
    pub fn url(&self) -> Result<&str, Failure> {
        match &self.global.database_url {
            Some(url) if !url.expose().is_empty() => Ok(url.expose()),
            _ => Err(Failure::usage("no control database is named").hint(
                "set ODF_DATABASE_URL or give --database-url postgresql://user@host/database",
            )),
        }
    }

    /// The control database, connected at the first call.
    ///
    /// # Errors
    /// Where none is named or it does not let us in.
    pub async fn db(&mut self) -> Result<PgPool, Failure> {
        if let Some(db) = &self.db {
            return Ok(db.clone());
        }
        let db = crate::read::connect(self.url()?, "coordinator-cli").await?;
        self.db = Some(db.clone());
        Ok(db)
    }

    /// A pool's, job's or data set's name as the verbs take it, with the flow that was named.
    #[must_use]
    pub fn qualified(&self, name: &str) -> String {
        match &self.global.flow {
            Some(flow) if !name.contains(':') && name != "all" => format!("{flow}:{name}"),
            _ => name.to_owned(),
        }
    }
}

/// Runs a command of this process and answers with its exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let out = Output::of_process(cli.global.output, cli.global.quiet);
    run_into(cli, out).await.into()
}

/// Runs a command into the given streams.
pub async fn run_into(cli: Cli, out: Output) -> Exit {
    let mut session = Session {
        global: cli.global,
        out,
        db: None,
    };
    let ended = dispatch(cli.command, &mut session).await;
    if let Some(db) = session.db.take() {
        db.close().await;
    }
    match ended {
        Ok(exit) => exit,
        Err(failure) => {
            if let Some(message) = &failure.message {
                session.out.complain(message, failure.hint.as_deref());
            }
            failure.exit
        }
    }
}

async fn dispatch(command: Command, session: &mut Session) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => daemon::init(args, session).await,
        Command::Dev(args) => daemon::dev(args).await,
        Command::Serve(args) => daemon::serve(args, session).await,
        Command::Plan(args) => daemon::plan(args, session).await,
        Command::Apply(args) => daemon::apply(args, session).await,
        Command::Replan(args) => replan::run(args, session).await,
        Command::Status(args) => status::run(args, session).await,
        Command::Chunks(args) => chunks::run(args, session).await,
        Command::Explain(args) => explain::run(args, session).await,
        Command::Lineage(args) => lineage::run(args, session).await,
        Command::Stale(args) => stale::run(args, session).await,
        Command::Logs(args) => logs::run(args, session).await,
        Command::Failures(args) => failures::run(args, session).await,
        Command::Postmortem(args) => postmortem::run(args, session).await,
        Command::Reconcile(args) => reconcile::run(args, session).await,
        Command::Certify(args) => certify::run(args, session).await,
        Command::Workers(args) => workers::run(args, session).await,
        Command::Pools(args) => pools::run(args, session).await,
        Command::Events(args) => events::run(args, session).await,
        Command::Scale(args) => scale::run(args, session).await,
        Command::Pause(args) => pause::pause(args, session).await,
        Command::Resume(args) => pause::resume(args, session).await,
        Command::Resubmit(args) => request::resubmit(args, session).await,
        Command::Hold(args) => request::hold(args, session).await,
        Command::Cancel(args) => request::cancel(args, session).await,
        Command::Approve(args) => approve::run(args, session).await,
        Command::Drain(args) => drain::run(args, session).await,
        Command::Example(args) => example::run(args, session),
        Command::Completions(args) => completions::run(args, session),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Cli, command};

    #[test]
    fn the_tree_of_commands_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_url_is_never_in_a_debug_print() {
        let cli = Cli::try_parse_from([
            "coordinator",
            "status",
            "--database-url",
            "postgresql://ann:sesame@h/d",
        ])
        .unwrap();
        assert!(!format!("{cli:?}").contains("sesame"));
    }
}
