//! What the tests of the real `coordinator` share: a control database that is a source as well, a
//! folder with a flow file, and the commands over both.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Daemon, Program, Ran, Role, TestDb, eventually};

/// The head of every flow file here: `src` is the test's own database.
pub(crate) const HEAD: &str = "flow: test
connections:
  src: { kind: postgres, url: \"${secret:SRC_URL}\" }
  lake: { kind: files, root: /nowhere }
";

/// The usual flow: `items` in the given partition, `mid` made from it, `dst` made from that.
pub(crate) fn chain(partition: &str) -> String {
    format!(
        "{HEAD}datasets:
  items: {{ at: {{ connection: src, table: items }}, partition: {partition} }}
  mid: {{ at: {{ connection: lake, path: \"mid/{{chunk}}.{{fence}}\" }} }}
  dst: {{ at: {{ connection: lake, path: \"dst/{{chunk}}.{{fence}}\" }} }}
jobs:
  extract: {{ input: items, output: mid, run: {{ script: run.sh }} }}
  load: {{ input: mid, output: dst, run: {{ script: run.sh }} }}
"
    )
}

/// One test's database and folder.
pub(crate) struct Site {
    /// The database.
    pub(crate) db: TestDb,
    /// The folder: flow files and scripts.
    pub(crate) dir: TempDir,
}

impl Site {
    /// An installed database and an empty folder.
    pub(crate) async fn new() -> Self {
        Self::over(TestDb::new().await)
    }

    /// As [`Self::new`], with a table `items` of so many rows, ids from 1.
    pub(crate) async fn with_items(rows: i64) -> Self {
        let site = Self::new().await;
        site.make_items(rows).await;
        site
    }

    /// A folder beside a database.
    pub(crate) fn over(db: TestDb) -> Self {
        Self {
            db,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Makes the table `items`.
    pub(crate) async fn make_items(&self, rows: i64) {
        self.db
            .exec("create table public.items (id bigint primary key)", &[])
            .await;
        self.db
            .exec(
                "insert into public.items select generate_series(1, $1::bigint)",
                &[&rows],
            )
            .await;
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `coordinator` with those arguments, as an operator, with the source's url in its environment.
    pub(crate) async fn command(&self, args: &[&str]) -> Program {
        Program::coordinator(args)
            .await
            .database(self.db.url(Role::Operator))
            .env("SRC_URL", self.db.admin_url())
    }

    /// Applies a flow file with that text.
    pub(crate) async fn apply(&self, text: &str) -> Ran {
        self.apply_with(text, &[]).await
    }

    /// As [`Self::apply`], with more arguments.
    pub(crate) async fn apply_with(&self, text: &str, more: &[&str]) -> Ran {
        let file = self.write("flow.yaml", text);
        let mut args = vec!["apply", "-y"];
        args.extend(more);
        self.command(&args).await.arg(file).run().await
    }

    /// A coordinator daemon, `scale` times as fast as in life.
    pub(crate) async fn serve(&self, scale: u32) -> Daemon {
        self.server(scale).await.start()
    }

    /// The program of [`Self::serve`].
    pub(crate) async fn server(&self, scale: u32) -> Program {
        Program::coordinator(&["serve"])
            .await
            .database(self.db.url(Role::Coordinator))
            .env("SRC_URL", self.db.admin_url())
            .env("ODF_TIME_SCALE", scale.to_string())
            .arg("--script-dir")
            .arg(self.dir.path())
    }

    /// Versions of the flow `test`.
    pub(crate) async fn versions(&self) -> i64 {
        self.db
            .scalar("select count(*) from odf.flow_version")
            .await
    }

    /// Waits until every data set of that name has a sealed plan.
    pub(crate) async fn planned(&self, set: &str) {
        eventually(&format!("a plan of {set}"), || async {
            let sql = format!(
                "select bool_and(plan_id is not null) from odf.data_set where name = '{set}' and not retired"
            );
            self.db.scalar::<bool>(&sql).await.then_some(())
        })
        .await;
    }

    /// How many rows each of our tables has, as one text: equal before and after means nothing written.
    pub(crate) async fn row_counts(&self) -> String {
        self.db
            .scalar(
                "select string_agg(t.name || '=' || (xpath('/row/n/text()', query_to_xml(format(
                   'select count(*) as n from odf.%I', t.name), false, true, '')))[1]::text, ' ' order by t.name)
                 from (select relname::text as name from pg_class
                        where relnamespace = 'odf'::regnamespace and relkind in ('r', 'p')) t",
            )
            .await
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}
