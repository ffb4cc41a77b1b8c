//! `unique`: no two rows have the same values, in bounded memory whatever their number.
//!
//! Rows are known by a 128-bit hash of their values. So many are kept in memory; more are written to
//! an unnamed file in sorted runs, which are merged at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::Wanted;
use crate::audit::probe::{Answer, Facts, Probe};
use crate::audit::row::Row;

/// Hashes kept in memory: 16 MiB.
const IN_MEMORY: usize = 1 << 20;
const WIDTH: usize = 16;

/// The probe.
pub(crate) struct Unique {
    wanted: Wanted,
    hashes: Vec<u128>,
    limit: usize,
    spill: Spill,
    rows: u64,
    with_null: u64,
    fault: Option<io::Error>,
    buffer: Vec<u8>,
}

/// Sorted runs in a file without a name.
struct Spill {
    dir: PathBuf,
    file: Option<Arc<File>>,
    /// Where each run ends, in hashes.
    ends: Vec<u64>,
}

impl Unique {
    pub(crate) fn new(columns: &[String], dir: &Path) -> Self {
        Self::with_limit(columns, dir, IN_MEMORY)
    }

    fn with_limit(columns: &[String], dir: &Path, limit: usize) -> Self {
        Self {
            wanted: Wanted::new(columns),
            hashes: Vec::new(),
            limit,
            spill: Spill {
                dir: dir.to_owned(),
                file: None,
                ends: Vec::new(),
            },
            rows: 0,
            with_null: 0,
            fault: None,
            buffer: Vec::new(),
        }
    }

    /// Rows that repeat another.
    fn repeats(&mut self) -> io::Result<u64> {
        self.hashes.sort_unstable();
        if self.spill.file.is_none() {
            let repeats = self.hashes.windows(2).filter(|pair| pair[0] == pair[1]);
            return Ok(repeats.count() as u64);
        }
        self.spill.write(&self.hashes)?;
        self.hashes = Vec::new();
        self.spill.repeats()
    }
}

impl Spill {
    /// Appends a sorted run.
    fn write(&mut self, run: &[u128]) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = Arc::new(unnamed_file(&self.dir)?);
                self.file = Some(Arc::clone(&file));
                file
            }
        };
        let mut writer = BufWriter::with_capacity(1 << 18, &*file);
        writer.seek(SeekFrom::End(0))?;
        for hash in run {
            writer.write_all(&hash.to_le_bytes())?;
        }
        writer.flush()?;
        let before = self.ends.last().copied().unwrap_or(0);
        self.ends.push(before + run.len() as u64);
        Ok(())
    }

    /// Merges the runs and counts equal neighbours.
    fn repeats(&self) -> io::Result<u64> {
        let Some(file) = &self.file else { return Ok(0) };
        let mut from = 0;
        let mut runs: Vec<BufReader<Run>> = Vec::new();
        for end in &self.ends {
            let run = Run {
                file: Arc::clone(file),
                at: from * WIDTH as u64,
                end: end * WIDTH as u64,
            };
            runs.push(BufReader::with_capacity(1 << 15, run));
            from = *end;
        }
        let mut heap = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heap.extend(next(run)?.map(|hash| Reverse((hash, number))));
        }
        let (mut before, mut repeats) = (None, 0);
        while let Some(Reverse((hash, number))) = heap.pop() {
            repeats += u64::from(before == Some(hash));
            before = Some(hash);
            heap.extend(next(&mut runs[number])?.map(|hash| Reverse((hash, number))));
        }
        Ok(repeats)
    }
}

/// A part of a file.
struct Run {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Run {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = block.len().min(left);
        let count = self.file.read_at(&mut block[..wanted], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn next(run: &mut BufReader<Run>) -> io::Result<Option<u128>> {
    let mut bytes = [0; WIDTH];
    match run.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(u128::from_le_bytes(bytes))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that goes with whoever has it open.
fn unnamed_file(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("unique.{}", uuid::Uuid::new_v4()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Probe for Unique {
    fn columns(&mut self, names: &[String]) {
        self.wanted.find(names);
    }

    fn row(&mut self, row: &Row<'_>) -> bool {
        self.rows += 1;
        self.buffer.clear();
        for number in 0..self.wanted.names.len() {
            let Some(text) = self.wanted.value(row, number) else {
                self.with_null += 1;
                return true;
            };
            self.buffer
                .extend_from_slice(&(text.len() as u64).to_le_bytes());
            self.buffer.extend_from_slice(text);
        }
        if self.hashes.len() >= self.limit && self.fault.is_none() {
            self.hashes.sort_unstable();
            self.fault = self.spill.write(&self.hashes).err();
            self.hashes.clear();
        }
        if self.fault.is_none() {
            self.hashes.push(xxh3_128(&self.buffer));
        }
        true
    }

    fn answer(&mut self, facts: &Facts<'_>) -> Answer {
        if let Some(missing) = self.wanted.missing(facts.rows) {
            return Answer::new(false, missing);
        }
        let counted = match self.fault.take() {
            Some(error) => Err(error),
            None => self.repeats(),
        };
        let (rows, null) = (self.rows, self.with_null);
        match counted {
            Ok(0) => Answer::new(
                true,
                format!("{} different of {rows} rows, {null} with NULL", rows - null),
            ),
            Ok(repeats) => Answer::new(false, format!("{repeats} of {rows} rows repeat another")),
            Err(error) => Answer::new(
                false,
                format!(
                    "not told: the worker's own directory cannot hold what is compared ({error})"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Unique;
    use crate::audit::probe::Probe as _;
    use crate::audit::row::Row;

    fn repeats(limit: usize, values: impl Iterator<Item = u64>) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut unique = Unique::with_limit(&["a".to_owned()], dir.path(), limit);
        unique.columns(&["a".to_owned()]);
        for (number, value) in values.enumerate() {
            let text = value.to_string();
            unique.row(&Row {
                number: number as u64 + 1,
                values: &[Some(text.as_bytes())],
                raw: &[],
            });
            assert!(unique.hashes.len() <= limit);
        }
        let repeats = unique.repeats().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        repeats
    }

    #[test]
    fn what_does_not_fit_in_memory_is_compared_too() {
        for limit in [1, 7, 100, 10_000] {
            assert_eq!(repeats(limit, 0..1000), 0, "{limit}");
            assert_eq!(repeats(limit, (0..1000).chain([0, 999, 999])), 3, "{limit}");
            assert_eq!(repeats(limit, (0..50).map(|n| n % 10)), 40, "{limit}");
        }
    }
}
