//! Everything that must be there before a script starts: places checked, directories made,
//! secrets resolved, environment and context file written.
//!
//! Blocking; runs where blocking is allowed. What fails here has started nothing.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use common::domain::size::format_bytes;
use common::domain::{InputChunk, JobSpec, WorkItem};
use nix::sys::stat::Mode;

use super::connections::{Resolved, Resolver, resolve_all, resolve_env};
use super::context::{connection, context_json, view_input};
use super::environment::variables;
use super::place::{extension, published_path, sanitise, staged_stem};
use super::staging::{STAGING_DIR, remove_any};
use super::{AttemptContext, AttemptFiles, Failure, Mask, OutputPlace, WorkerEnv};

/// Prepares an attempt; `with_log` is false where the terminal gets the output.
///
/// # Errors
/// The [`Failure`] that is the attempt's outcome; its files are removed again.
pub(crate) fn prepare(
    env: &WorkerEnv,
    item: WorkItem,
    spec: JobSpec,
    fan_in: Vec<InputChunk>,
    with_log: bool,
) -> Result<AttemptContext, (Failure, Mask)> {
    let mut resolver = Resolver::new(&*env.secrets);
    let resolved = resolve_all(&spec, &mut resolver)
        .and_then(|connections| Ok((connections, resolve_env(&spec, &mut resolver)?)));
    let mask = Mask::new(resolver.into_hidden());
    let failed = |failure: Failure| (failure, mask.clone());
    let (connections, job_env) = resolved.map_err(failed)?;
    let output = output_place(&item, &spec, &connections).map_err(failed)?;
    let files = make_files(&env.work_dir, &item).map_err(failed)?;
    let log_path = with_log.then(|| log_path(&env.log_dir, &item));
    let mut context = AttemptContext {
        output,
        files,
        env: Vec::new(),
        mask: mask.clone(),
        script_dir: env.script_dir.clone(),
        log_path,
        log_limits: env.log_limits,
        linger: env.linger,
        connections,
        item,
        spec,
        fan_in,
    };
    if let Err(failure) = describe(&mut context, env, job_env) {
        remove_any(&context.files.dir);
        return Err(failed(failure));
    }
    Ok(context)
}

/// `LOGDIR/<data set>/<key>/<fence>.log`.
fn log_path(log_dir: &Path, item: &WorkItem) -> PathBuf {
    log_dir
        .join(sanitise(&item.dataset))
        .join(sanitise(&item.key))
        .join(format!("{}.log", item.fence))
}

/// Decides where the output goes and makes sure that it can.
fn output_place(
    item: &WorkItem,
    spec: &JobSpec,
    connections: &std::collections::BTreeMap<String, Resolved>,
) -> Result<OutputPlace, Failure> {
    let name = &spec.output_at.connection;
    match connection(connections, name)? {
        Resolved::Postgres { .. } => match &spec.output_at.table {
            Some(table) => Ok(OutputPlace::Table {
                table: table.clone(),
            }),
            None => Ok(OutputPlace::Elsewhere),
        },
        Resolved::Other { .. } => Ok(OutputPlace::Elsewhere),
        Resolved::Files {
            root,
            min_free_bytes,
        } => {
            let Some(template) = &spec.output_at.path else {
                return Err(Failure::permanent(format!(
                    "data set {} lies in connection {name} and has no path (hint: declare at: {{connection: {name}, path: ...}})",
                    spec.output
                )));
            };
            let relative = published_path(template, item)?;
            check_root(name, root, *min_free_bytes)?;
            let stem = staged_stem(&item.dataset, &item.key, item.fence);
            let directory = root.join(STAGING_DIR);
            fs::create_dir_all(&directory)
                .map_err(|error| Failure::io("create the staging directory", &directory, &error))?;
            let staging = directory.join(format!("{stem}{}", extension(template)));
            // Left by a run of the same attempt that this worker does not remember.
            remove_any(&staging);
            Ok(OutputPlace::File {
                root: root.clone(),
                staging,
                relative,
            })
        }
    }
}

/// The root is there (we never make one: it may be a mount that is missing) and has room.
fn check_root(name: &str, root: &Path, min_free_bytes: u64) -> Result<(), Failure> {
    if !root.is_dir() {
        return Err(Failure::host(format!(
            "the root {} of connection {name} is not a directory on this worker (hint: mount or create it)",
            root.display()
        )));
    }
    if min_free_bytes == 0 {
        return Ok(());
    }
    let stat = nix::sys::statvfs::statvfs(root)
        .map_err(|errno| Failure::io("look at the free space of", root, &errno.into()))?;
    // The types of these fields differ between platforms.
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the types of these fields differ between platforms"
    )]
    let free = (stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64);
    if free < min_free_bytes {
        return Err(Failure::host(format!(
            "the root {} of connection {name} has {} free on this worker, and its min_free asks for {}",
            root.display(),
            format_bytes(free),
            format_bytes(min_free_bytes)
        )));
    }
    Ok(())
}

/// Makes the attempt's private directory with an empty work directory in it.
fn make_files(work_dir: &Path, item: &WorkItem) -> Result<AttemptFiles, Failure> {
    let dir = work_dir.join(format!("{}.{}", item.chunk_id, item.fence));
    let files = AttemptFiles {
        work: dir.join("work"),
        context: dir.join("context.json"),
        inputs: dir.join("inputs.jsonl"),
        result: dir.join("result.json"),
        progress: dir.join("progress"),
        output: dir.join("output"),
        dir,
    };
    remove_any(&files.dir);
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(work_dir)?;
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        private.create(&files.dir)?;
        private.create(&files.work)?;
        create_private(&files.progress)?;
        nix::unistd::mkfifo(&files.output, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(())
    };
    make().map_err(|error| {
        remove_any(&files.dir);
        Failure::io("make the work directory", &files.dir, &error)
    })?;
    Ok(files)
}

fn create_private(path: &Path) -> std::io::Result<fs::File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Writes environment, context file and list of inputs.
fn describe(
    context: &mut AttemptContext,
    env: &WorkerEnv,
    job_env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let view = |inputs: &[InputChunk]| {
        inputs
            .iter()
            .map(|input| view_input(input, &context.connections))
            .collect::<Result<Vec<_>, _>>()
    };
    let inputs = view(&context.item.inputs)?;
    let fan_in = view(&context.fan_in)?;
    let predicate = (env.predicate)(&context.item.bounds);
    let json = context_json(context, &inputs, &fan_in, &predicate)?;
    let path = &context.files.context;
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(create_private(path)?);
        serde_json::to_writer_pretty(&mut file, &json)?;
        file.flush()
    };
    write().map_err(|error| Failure::io("write the context file", path, &error))?;
    let path = &context.files.inputs;
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(create_private(path)?);
        for input in inputs.iter().chain(&fan_in) {
            serde_json::to_writer(&mut file, input)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    };
    write().map_err(|error| Failure::io("write the list of inputs", path, &error))?;
    context.env = variables(context, &inputs, &predicate, job_env)?;
    Ok(())
}
