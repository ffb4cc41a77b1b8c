//! Trees of processes, read from `/proc`: who descends from whom, and signals for all of them.
//!
//! A listing is only a hint (processes come and go while it is read); that a tree is empty is
//! for the kernel to say, by `ECHILD` to its subreaper. Nothing here may signal a process that
//! was not found below the given one.

use std::collections::{HashMap, HashSet};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) zombie: bool,
}

/// Parses `/proc/PID/stat`. The command name in parentheses may itself hold `)`, spaces and newlines.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        group,
        zombie: state == "Z" || state == "X",
    })
}

/// The signal that ended a process which is not collected yet.
pub(crate) fn ending_signal(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&stat);
    // The last field of a zombie's line is what `wait` would say.
    let status: i32 = text.split_ascii_whitespace().last()?.parse().ok()?;
    Some(status & 0x7f).filter(|signal| *signal > 0)
}

/// Every process that can be seen.
fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            parse_stat(pid, &std::fs::read(entry.path().join("stat")).ok()?)
        })
        .collect()
}

/// The living descendants of a process, without those in `except` and all below them.
pub(crate) fn descendants(of: i32, except: &HashSet<i32>) -> Vec<Process> {
    select_descendants(&processes(), of, except)
}

fn select_descendants(table: &[Process], of: i32, except: &HashSet<i32>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in table {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([of]);
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if except.contains(&child.pid) || !seen.insert(child.pid) {
                continue;
            }
            next.push(child.pid);
            if !child.zombie {
                found.push(*child);
            }
        }
    }
    found
}

/// The direct children of a process, dead or alive, without those in `except`.
pub(crate) fn orphans(of: i32, except: &HashSet<i32>) -> Vec<i32> {
    processes()
        .iter()
        .filter(|process| process.parent == of && !except.contains(&process.pid))
        .map(|process| process.pid)
        .collect()
}

/// TERM to each process once, then CONT, so that a stopped one hears it.
pub(crate) fn term(processes: &[Process]) {
    for process in processes {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGTERM);
    }
    for process in processes {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGCONT);
    }
}

/// KILL to each process, and to each group led from inside the tree: the kernel signals a
/// group in one step, so a group that forks as fast as it can has no gap to escape through.
pub(crate) fn kill_all(processes: &[Process]) {
    let pids: HashSet<i32> = processes.iter().map(|process| process.pid).collect();
    let groups: HashSet<i32> = processes
        .iter()
        .map(|process| process.group)
        .filter(|group| pids.contains(group))
        .collect();
    for group in groups {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    for pid in pids {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Process, parse_stat, select_descendants};

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            group: pid,
            zombie: false,
        }
    }

    #[test]
    fn a_command_name_with_parentheses_and_newlines_is_skipped() {
        let stat = b"42 (a) S 7 (b\n) R 7 41 40 0 -1";
        let found = parse_stat(42, stat).expect("a stat line");
        assert_eq!((found.parent, found.group, found.zombie), (7, 41, false));
        assert!(parse_stat(42, b"42 (sh) Z 7 41 40").is_some_and(|process| process.zombie));
        assert!(parse_stat(42, b"nonsense").is_none());
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_exceptions_prune_their_subtree() {
        let table = [
            process(2, 1),
            process(3, 2),
            process(4, 3),
            process(5, 1),
            process(6, 5),
            process(9, 8),
        ];
        let found = select_descendants(&table, 1, &HashSet::from([5]));
        let mut pids: Vec<i32> = found.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [2, 3, 4]);
    }

    #[test]
    fn a_loop_in_a_torn_listing_ends() {
        let table = [process(2, 3), process(3, 2), process(2, 1)];
        assert_eq!(select_descendants(&table, 1, &HashSet::new()).len(), 2);
    }
}
