//! Files below a connection's root: finding them, and never leaving the root.
//!
//! Calls here block; run them on a blocking thread. Nothing here reads a file's content or
//! writes anything.

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// Why files cannot be listed, or a path cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The root is not a directory that can be read.
    #[error("a readable directory was expected at {}: {problem}; hint: check that it is mounted on this host under the same path", root.display())]
    Root {
        /// The connection's root, or the script directory.
        root: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// The pattern is no glob, or leaves the root.
    #[error(
        "a pattern such as in/**/*.csv, relative to the connection's root, was expected, found {pattern:?}: {problem}"
    )]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// A path that is absolute or leads out of the root.
    #[error("a path below {} was expected, found {path:?}: {problem}; hint: write it relative, without `..`", root.display())]
    Outside {
        /// The connection's root, or the script directory.
        root: PathBuf,
        /// The path.
        path: String,
        /// How it leaves.
        problem: &'static str,
    },
    /// Something below the root cannot be read, so the list would not be complete.
    #[error("cannot list {}: {problem}; hint: make it readable, or choose a pattern that leaves it out", path.display())]
    Unreadable {
        /// The place.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
}

/// A file that a pattern found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Relative to the root, `/` between parts.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// What a pattern found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Regular files, ordered by path.
    pub files: Vec<FoundFile>,
    /// What matched and was left out, with the reason, for people.
    pub skipped: Vec<String>,
}

/// Lists the regular files that a glob finds below the root, ordered by path.
///
/// `*` and `?` do not cross `/` and match no leading dot (files being written often have one);
/// `**` is any number of directories and follows no link. Elsewhere a link is followed as long
/// as it stays below the root.
///
/// # Errors
/// A root that is no directory, a pattern that is no glob or is absolute or holds `..`, a
/// directory that cannot be read, and a matching name that is not UTF-8 (it could not be handed on).
pub fn list(root: &Path, pattern: &str) -> Result<Listing, FilesError> {
    let root = real_root(root)?;
    let not_a_pattern = |problem: &str| FilesError::Pattern {
        pattern: pattern.to_owned(),
        problem: problem.to_owned(),
    };
    refuse_outside(pattern).map_err(not_a_pattern)?;
    let mut steps: Vec<Step> = Vec::new();
    for part in pattern.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part != "**" {
            steps.push(Step::Match(
                Pattern::new(part).map_err(|e| not_a_pattern(e.msg))?,
            ));
        } else if !matches!(steps.last(), Some(Step::AnyDepth)) {
            steps.push(Step::AnyDepth);
        }
    }
    if let Some(Step::AnyDepth) | None = steps.last() {
        steps.push(Step::Match(
            Pattern::new("*").map_err(|e| not_a_pattern(e.msg))?,
        ));
    }
    let mut listing = Listing::default();
    walk(&root, &root, &steps, &mut listing)?;
    listing.files.sort_by(|a, b| a.path.cmp(&b.path));
    listing.files.dedup();
    listing.skipped.sort();
    listing.skipped.dedup();
    Ok(listing)
}

/// One part of a pattern between slashes.
enum Step {
    /// `**`
    AnyDepth,
    /// Anything else.
    Match(Pattern),
}

const NAMES: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

// The glob crate's own walk is not used: it passes over names that are not UTF-8 in silence (or
// panics on them), and a list that is not complete must be an error.
fn walk(root: &Path, dir: &Path, steps: &[Step], listing: &mut Listing) -> Result<(), FilesError> {
    let Some((step, rest)) = steps.split_first() else {
        return Ok(());
    };
    if let Step::AnyDepth = step {
        walk(root, dir, rest, listing)?;
    }
    for path in entries(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match step {
            Step::AnyDepth => {
                let meta = path.symlink_metadata();
                if !name.starts_with('.') && meta.is_ok_and(|meta| meta.is_dir()) {
                    walk(root, &path, steps, listing)?;
                }
            }
            Step::Match(pattern) if !pattern.matches_with(&name, NAMES) => {}
            Step::Match(_) if rest.is_empty() => consider(root, &path, listing)?,
            Step::Match(_) if path.is_dir() => match path.canonicalize() {
                Ok(real) if real.starts_with(root) => walk(root, &path, rest, listing)?,
                _ => listing.skipped.push(leads_out(root, &path)),
            },
            Step::Match(_) => {}
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let unreadable = |error: std::io::Error| FilesError::Unreadable {
        path: dir.to_owned(),
        problem: error.to_string(),
    };
    let mut paths = std::fs::read_dir(dir)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

fn leads_out(root: &Path, path: &Path) -> String {
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    format!("{shown}: a link that leads out of the root")
}

fn real_root(root: &Path) -> Result<PathBuf, FilesError> {
    let problem = |problem: String| FilesError::Root {
        root: root.to_owned(),
        problem,
    };
    let real = root.canonicalize().map_err(|e| problem(e.to_string()))?;
    std::fs::read_dir(&real).map_err(|e| problem(e.to_string()))?;
    Ok(real)
}

fn consider(root: &Path, path: &Path, listing: &mut Listing) -> Result<(), FilesError> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let shown = relative.display();
    let Some(text) = relative.to_str() else {
        return Err(FilesError::Unreadable {
            path: path.to_owned(),
            problem: "its name is not UTF-8".to_owned(),
        });
    };
    let (real, meta) = match path.canonicalize().and_then(|real| {
        let meta = std::fs::metadata(&real)?;
        Ok((real, meta))
    }) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            listing
                .skipped
                .push(format!("{shown}: gone, or a link to nothing"));
            return Ok(());
        }
        Err(error) => {
            return Err(FilesError::Unreadable {
                path: path.to_owned(),
                problem: error.to_string(),
            });
        }
    };
    if !real.starts_with(root) {
        listing.skipped.push(leads_out(root, path));
    } else if meta.is_file() {
        listing.files.push(FoundFile {
            path: text.to_owned(),
            bytes: meta.len(),
        });
    } else if !meta.is_dir() {
        listing.skipped.push(format!("{shown}: not a regular file"));
    }
    Ok(())
}

/// Says how a relative path leaves its root, by its text alone.
fn refuse_outside(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.contains('\0') {
        return Err("it holds the character NUL");
    }
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => return Err("it holds `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("it is absolute"),
            Component::CurDir | Component::Normal(_) => {}
        }
    }
    Ok(())
}

/// The absolute path of a relative one below the root; the file itself need not exist.
///
/// The deepest part that exists is resolved, so that a link cannot lead out.
///
/// # Errors
/// A root that is no directory; a path that is absolute, holds `..` or NUL, or whose existing
/// part leads out of the root through a link.
pub fn resolve(root: &Path, path: &str) -> Result<PathBuf, FilesError> {
    let outside = |problem| FilesError::Outside {
        root: root.to_owned(),
        path: path.to_owned(),
        problem,
    };
    refuse_outside(path).map_err(outside)?;
    let real_root = real_root(root)?;
    let whole = real_root.join(path);
    let mut existing = whole.as_path();
    loop {
        // A link to nothing exists as a link: symlink_metadata sees it where canonicalize fails.
        if existing.symlink_metadata().is_ok() {
            let real = existing
                .canonicalize()
                .map_err(|_| outside("a link in it leads nowhere"))?;
            if real.starts_with(&real_root) {
                return Ok(whole);
            }
            return Err(outside("a link in it leads out of the root"));
        }
        match existing.parent() {
            Some(parent) if parent.starts_with(&real_root) => existing = parent,
            _ => return Ok(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FilesError, list, resolve};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::Builder::new()
            .prefix("odf[x]*")
            .tempdir()
            .unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        root
    }

    fn paths(root: &tempfile::TempDir, pattern: &str) -> Vec<String> {
        let listing = list(root.path(), pattern).unwrap();
        listing.files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn a_pattern_finds_files_in_order_below_a_root_with_odd_characters() {
        let root = tree(&[
            "in/b.csv",
            "in/a.csv",
            "in/x/c d.csv",
            "in/.tmp.csv",
            "in/n.txt",
        ]);
        assert_eq!(paths(&root, "in/*.csv"), ["in/a.csv", "in/b.csv"]);
        assert_eq!(
            paths(&root, "in/**/*.csv"),
            ["in/a.csv", "in/b.csv", "in/x/c d.csv"]
        );
        assert_eq!(paths(&root, "*"), Vec::<String>::new());
        let sizes = list(root.path(), "in/x/*").unwrap();
        assert_eq!(sizes.files[0].bytes, "in/x/c d.csv".len() as u64);
    }

    #[test]
    fn links_out_of_the_root_are_left_out_and_named() {
        let other = tree(&["secret.csv"]);
        let root = tree(&["a.csv"]);
        symlink(other.path().join("secret.csv"), root.path().join("b.csv")).unwrap();
        symlink(root.path().join("a.csv"), root.path().join("c.csv")).unwrap();
        symlink("nothing", root.path().join("d.csv")).unwrap();
        symlink(other.path(), root.path().join("dir")).unwrap();
        let listing = list(root.path(), "*.csv").unwrap();
        assert_eq!(listing.files.len(), 2, "{listing:?}");
        assert_eq!(
            listing.skipped,
            [
                "b.csv: a link that leads out of the root",
                "d.csv: gone, or a link to nothing"
            ]
        );
        let through = list(root.path(), "dir/*.csv").unwrap();
        assert_eq!((through.files.len(), through.skipped.len()), (0, 1));
        assert!(matches!(
            resolve(root.path(), "dir/new"),
            Err(FilesError::Outside { .. })
        ));
        assert!(matches!(
            resolve(root.path(), "d.csv"),
            Err(FilesError::Outside { .. })
        ));
        assert!(resolve(root.path(), "new/deep/file").is_ok());
    }

    #[test]
    fn what_cannot_be_listed_whole_is_refused() {
        let root = tree(&["a.csv"]);
        for pattern in ["../*", "/etc/*", "a/../../*", "", "***", "[a"] {
            assert!(
                matches!(list(root.path(), pattern), Err(FilesError::Pattern { .. })),
                "{pattern}"
            );
        }
        let odd = std::ffi::OsStr::from_bytes(b"\xff.csv");
        std::fs::write(root.path().join(odd), "").unwrap();
        assert!(matches!(
            list(root.path(), "*.csv"),
            Err(FilesError::Unreadable { .. })
        ));
        let missing = root.path().join("missing");
        assert!(matches!(list(&missing, "*"), Err(FilesError::Root { .. })));
    }
}
