//! A small process that ends the server when our process has ended, however that happened.
//!
//! It reads from a pipe whose other end we hold. The kernel closes that end with us, even on
//! kill -9; then the guard stops the server it was told about, and nothing else. (A parent-death
//! signal would need `unsafe`, and fires when the *thread* that started the server ends.)

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::error::PrivatePgError;
use super::privileges::plain_environment;

/// $1 the server's pid, $2 its data directory, $3 the signal, then the paths to remove at the end.
/// A line on the pipe dismisses the guard; the end of the pipe is its order.
const SCRIPT: &str = r#"
read -r dismissed && exit 0
pid=$1 data=$2 signal=$3
shift 3
ours() { read -r first < "$data/postmaster.pid" && [ "$first" = "$pid" ] && kill -0 "$pid"; }
ours && kill -"$signal" "$pid"
waited=0
while ours && [ "$waited" -lt 300 ]; do
    sleep 0.1
    waited=$((waited + 1))
    [ "$waited" -eq 100 ] && ours && kill -QUIT "$pid"
done
[ $# -gt 0 ] && rm -rf -- "$@"
exit 0
"#;

/// What the guard does beside stopping the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orders {
    /// Stop at once instead of after a checkpoint.
    pub(super) immediate: bool,
    /// What to remove when the server has ended.
    pub(super) remove: Vec<PathBuf>,
}

/// The guard. Dropping it gives the order to stop.
pub(super) struct Guard {
    pipe: Option<ChildStdin>,
    process: Child,
}

impl Guard {
    /// Sets a guard over the server `pid` of `data_dir`.
    pub(super) fn set(pid: i32, data_dir: &Path, orders: &Orders) -> Result<Self, PrivatePgError> {
        let shell = Path::new("/bin/sh");
        let mut command = Command::new(shell);
        plain_environment(&mut command);
        let mut process = command
            .args(["-c", SCRIPT, "odf-pg-guard"])
            .arg(pid.to_string())
            .arg(data_dir)
            .arg(if orders.immediate { "QUIT" } else { "INT" })
            .args(&orders.remove)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(PrivatePgError::io("run", shell))?;
        Ok(Self {
            pipe: process.stdin.take(),
            process,
        })
    }

    /// Sends the guard away: the server is none of its business any more. Blocks until it went.
    pub(super) fn dismiss(mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"dismissed\n");
        }
        let _ = self.process.wait();
    }

    /// Lets the guard follow its orders now. Blocks until it has.
    pub(super) fn finish(mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }
}
