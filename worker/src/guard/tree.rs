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
    parent: i32,
    group: i32,
    zombie: bool,
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

/// The direct children of a process as the kernel lists them; `None` where it keeps no lists.
fn listed_children(pid: i32) -> Option<Vec<i32>> {
    let mut children = Vec::new();
    // A thread's own list: a child belongs to the thread that forked it.
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = task.ok()?.path().join("children");
        let Ok(list) = std::fs::read_to_string(&path) else {
            // The thread may have ended, or the kernel may be built without.
            path.parent().filter(|task| !task.exists())?;
            continue;
        };
        children.extend(
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    Some(children)
}

/// Every process that can be seen, by its parent.
fn all_by_parent() -> HashMap<i32, Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && let Some(process) = read_stat(pid)
        {
            children.entry(process.parent).or_default().push(pid);
        }
    }
    children
}

fn read_stat(pid: i32) -> Option<Process> {
    parse_stat(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The living descendants of a process, without those in `except` and all below them.
///
/// Reads the kernel's lists of children, which takes no longer on a host with many processes;
/// where there are none, the whole process table.
pub(crate) fn descendants(of: i32, except: &HashSet<i32>) -> Vec<Process> {
    let pids = if listed_children(std::process::id() as i32).is_some() {
        select(of, except, |pid| listed_children(pid).unwrap_or_default())
    } else {
        let mut all = all_by_parent();
        select(of, except, |pid| all.remove(&pid).unwrap_or_default())
    };
    pids.into_iter()
        .filter_map(read_stat)
        .filter(|process| !process.zombie)
        .collect()
}

fn select(of: i32, except: &HashSet<i32>, mut children: impl FnMut(i32) -> Vec<i32>) -> Vec<i32> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([of]);
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        for child in children(parent) {
            if !except.contains(&child) && seen.insert(child) {
                next.push(child);
                found.push(child);
            }
        }
    }
    found
}

/// The direct children of a process, dead or alive, without those in `except`.
pub(crate) fn orphans(of: i32, except: &HashSet<i32>) -> Vec<i32> {
    listed_children(of)
        .unwrap_or_else(|| all_by_parent().remove(&of).unwrap_or_default())
        .into_iter()
        .filter(|pid| !except.contains(pid))
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

    use super::{all_by_parent, listed_children, parse_stat, select};

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
        let children = |pid| match pid {
            1 => vec![2, 5],
            2 => vec![3],
            3 => vec![4],
            5 => vec![6],
            8 => vec![9],
            _ => Vec::new(),
        };
        let mut pids = select(1, &HashSet::from([5]), children);
        pids.sort_unstable();
        assert_eq!(pids, [2, 3, 4]);
    }

    #[test]
    fn a_loop_in_a_torn_listing_ends() {
        let children = |pid| match pid {
            1 | 3 => vec![2],
            2 => vec![3, 1],
            _ => Vec::new(),
        };
        assert_eq!(select(1, &HashSet::new(), children), [2, 3]);
    }

    #[test]
    fn both_ways_find_a_child() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let (own, pid) = (std::process::id() as i32, child.id() as i32);
        let by_table = all_by_parent().remove(&own).unwrap_or_default();
        let by_list = listed_children(own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(by_table.contains(&pid));
        assert!(by_list.is_none_or(|list| list.contains(&pid)));
    }
}
