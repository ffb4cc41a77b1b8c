//! Finding the PostgreSQL servers that are installed on this machine.
//!
//! It only looks and asks for versions: it must never start a server, create a file or install
//! anything.

use std::cmp::Reverse;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::PrivatePgError;
use super::privileges::plain_environment;

/// The majors that OpenDataFlow is tested with.
pub const MAJORS: RangeInclusive<u32> = 15..=18;

/// Names the environment variable that points at a folder of server binaries.
pub const BIN_VARIABLE: &str = "ODF_PG_BIN";

/// Where packages put their servers; `*` is a version.
const USUAL_FOLDERS: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/opt/homebrew/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
    "/usr/libexec/postgresql*",
];

/// An installed server that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgBinaries {
    /// The folder that holds `initdb` and `postgres`, symbolic links resolved.
    pub bin_dir: PathBuf,
    /// The major version: one of [`MAJORS`].
    pub major: u32,
    /// The full version as the server prints it, such as `15.18` or `18beta1`.
    pub version: String,
}

/// An installed server that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The folder it is in.
    pub bin_dir: PathBuf,
    /// Why it cannot be used.
    pub why: String,
}

/// Everything a search found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The usable installations, highest version first, the more deliberate place first among equals.
    pub usable: Vec<PgBinaries>,
    /// The others.
    pub rejected: Vec<Rejected>,
}

/// Where to look: the process's environment as a value, so that a test can give another one.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// A folder named by a setting: nothing else is looked at.
    pub explicit: Option<PathBuf>,
    /// The folder named by `ODF_PG_BIN`: nothing else is looked at.
    pub variable: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// Glob patterns of folders.
    pub folders: Vec<String>,
}

/// Finds the server to use: the named one, else the highest usable version. Blocks for some 10 ms.
///
/// # Errors
/// [`PrivatePgError::NotFound`] with the command that installs one, or [`PrivatePgError::Unusable`]
/// for a named folder.
pub fn discover() -> Result<PgBinaries, PrivatePgError> {
    Search::from_environment(None).find()
}

/// Lists every installation, for a matrix over majors. Blocks for some 10 ms per installation.
#[must_use]
pub fn all() -> Found {
    Search::from_environment(None).all()
}

impl Search {
    /// The search that this process's environment describes, `explicit` first.
    #[must_use]
    pub fn from_environment(explicit: Option<PathBuf>) -> Self {
        Self {
            explicit,
            variable: env::var_os(BIN_VARIABLE)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
            path: env::var_os("PATH"),
            folders: USUAL_FOLDERS.map(String::from).to_vec(),
        }
    }

    /// The server to use for a new data directory.
    ///
    /// # Errors
    /// As [`discover`].
    pub fn find(&self) -> Result<PgBinaries, PrivatePgError> {
        if let Some(named) = self.named()? {
            return Ok(named);
        }
        let Found { usable, rejected } = self.all();
        usable
            .into_iter()
            .next()
            .ok_or(PrivatePgError::NotFound { rejected })
    }

    /// The server to use for `data_dir`, which major `data_major` made.
    ///
    /// # Errors
    /// [`PrivatePgError::WrongMajor`] when only other majors are there, else as [`discover`].
    pub fn find_for(&self, data_dir: &Path, data_major: u32) -> Result<PgBinaries, PrivatePgError> {
        let wrong = |found: String| PrivatePgError::WrongMajor {
            data_dir: data_dir.to_owned(),
            data_major,
            found,
        };
        if !MAJORS.contains(&data_major) {
            let (low, high) = (MAJORS.start(), MAJORS.end());
            return Err(wrong(format!("only {low} to {high} are supported")));
        }
        if let Some(named) = self.named()? {
            return if named.major == data_major {
                Ok(named)
            } else {
                let at = named.bin_dir.display();
                Err(wrong(format!(
                    "the binaries named, in {at}, are {}",
                    named.version
                )))
            };
        }
        let Found { usable, rejected } = self.all();
        if usable.is_empty() {
            return Err(PrivatePgError::NotFound { rejected });
        }
        let others: Vec<String> = usable.iter().map(|one| one.version.clone()).collect();
        usable
            .into_iter()
            .find(|one| one.major == data_major)
            .ok_or_else(|| {
                wrong(format!(
                    "only other versions are installed ({})",
                    others.join(", ")
                ))
            })
    }

    /// Every installation that the search can see.
    #[must_use]
    pub fn all(&self) -> Found {
        let mut found = Found::default();
        let mut seen = Vec::new();
        for candidate in self.candidates() {
            let Some(bin_dir) = resolve(&candidate) else {
                continue;
            };
            if seen.contains(&bin_dir) {
                continue;
            }
            match examine(&bin_dir) {
                Ok(binaries) => found.usable.push(binaries),
                Err(why) => found.rejected.push(Rejected {
                    bin_dir: bin_dir.clone(),
                    why,
                }),
            }
            seen.push(bin_dir);
        }
        // Stable: among equal versions the order of the candidates stays.
        found
            .usable
            .sort_by_key(|one| Reverse(version_order(&one.version)));
        found
    }

    /// The folder that a setting or the variable names, which then must be usable.
    fn named(&self) -> Result<Option<PgBinaries>, PrivatePgError> {
        let (origin, named) = match (&self.explicit, &self.variable) {
            (Some(folder), _) => ("the setting bin_dir", folder),
            (None, Some(folder)) => (BIN_VARIABLE, folder),
            (None, None) => return Ok(None),
        };
        let unusable = |why: String| PrivatePgError::Unusable {
            origin,
            bin_dir: named.clone(),
            why,
        };
        let folder = if named.is_file() {
            named.parent().unwrap_or(named)
        } else {
            named
        };
        let bin_dir = resolve(folder)
            .ok_or_else(|| unusable("`initdb` and `postgres` are not both there".into()))?;
        examine(&bin_dir).map(Some).map_err(unusable)
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let mut candidates: Vec<PathBuf> = Vec::new();
        candidates.extend(self.explicit.clone());
        candidates.extend(self.variable.clone());
        let on_path: Vec<PathBuf> = self
            .path
            .as_ref()
            .map(|path| env::split_paths(path).filter(|p| p.is_absolute()).collect())
            .unwrap_or_default();
        candidates.extend(on_path.iter().cloned());
        candidates.extend(on_path.iter().filter_map(|folder| pg_config_bindir(folder)));
        for pattern in &self.folders {
            let matches = glob::glob(pattern).into_iter().flatten();
            candidates.extend(matches.filter_map(Result::ok));
        }
        candidates
    }
}

/// The folder where the server really is: links and wrapper scripts followed. `None` when `folder`
/// has no server.
fn resolve(folder: &Path) -> Option<PathBuf> {
    let initdb = folder.join("initdb");
    if !executable(&initdb) || !executable(&folder.join("postgres")) {
        return None;
    }
    let real = fs::canonicalize(&initdb).ok()?;
    let real_folder = real.parent()?;
    // A version manager puts scripts in PATH that need its own environment; its pg_config knows
    // the way. A link farm may hold links to files of other names: then the farm itself is used.
    let behind = if is_script(&real) {
        pg_config_bindir(folder)
    } else {
        Some(real_folder.to_owned())
    };
    behind
        .filter(|place| executable(&place.join("initdb")) && executable(&place.join("postgres")))
        .and_then(|place| fs::canonicalize(place).ok())
        .or_else(|| fs::canonicalize(folder).ok())
}

/// Asks the server in `bin_dir` for its version; `Err` says why it cannot be used.
fn examine(bin_dir: &Path) -> Result<PgBinaries, String> {
    let text = output_of(&bin_dir.join("postgres"), "--version")
        .ok_or("`postgres --version` cannot be run")?;
    let (major, version) = parse_version(&text)
        .ok_or_else(|| format!("`postgres --version` answers {:?}", text.trim()))?;
    if !MAJORS.contains(&major) {
        let (low, high) = (MAJORS.start(), MAJORS.end());
        return Err(format!(
            "it is PostgreSQL {version}, and only {low} to {high} are supported"
        ));
    }
    Ok(PgBinaries {
        bin_dir: bin_dir.to_owned(),
        major,
        version,
    })
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian ...)` into `(15, "15.18")`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let (_, rest) = text.split_once("(PostgreSQL)")?;
    let version = rest.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version.to_owned()))
}

/// Orders versions: a release after its betas, 15.9 before 15.18.
fn version_order(version: &str) -> (u32, Option<u32>) {
    let (major, minor) = version.split_once('.').unwrap_or((version, ""));
    let digits: String = major.chars().take_while(char::is_ascii_digit).collect();
    (digits.parse().unwrap_or(0), minor.parse().ok())
}

fn pg_config_bindir(folder: &Path) -> Option<PathBuf> {
    let tool = folder.join("pg_config");
    if !executable(&tool) {
        return None;
    }
    let text = output_of(&tool, "--bindir")?;
    Some(PathBuf::from(text.trim())).filter(|place| place.is_absolute())
}

fn output_of(program: &Path, argument: &str) -> Option<String> {
    let mut command = Command::new(program);
    plain_environment(&mut command);
    let output = command
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && &start == b"#!"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a fake server of the given version.
    fn fake(root: &Path, name: &str, version: &str) -> PathBuf {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        for program in ["initdb", "postgres"] {
            let text = format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n");
            script(&folder.join(program), &text);
        }
        folder
    }

    /// Written by a child: a file that our own process holds open for writing while another test
    /// forks cannot be executed ("text file busy").
    fn script(path: &Path, text: &str) {
        let status = Command::new("sh")
            .args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh"])
            .arg(text)
            .arg(path)
            .status();
        assert!(status.unwrap().success());
    }

    fn search(root: &Path) -> Search {
        Search {
            folders: vec![format!("{}/*", root.display())],
            ..Search::default()
        }
    }

    #[test]
    fn reads_what_servers_print() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                15,
                "15.18",
            ),
            ("postgres (PostgreSQL) 18beta1\n", 18, "18beta1"),
            ("postgres (PostgreSQL) 9.6.24\n", 9, "9.6.24"),
        ];
        for (text, major, version) in cases {
            assert_eq!(parse_version(text), Some((major, version.into())));
        }
        assert_eq!(parse_version("postgres: command not found"), None);
    }

    #[test]
    fn the_highest_usable_version_wins() {
        let root = tempfile::tempdir().unwrap();
        for version in ["13.9", "15.9", "16.2", "15.18", "18beta1", "18.1", "19.0"] {
            fake(root.path(), version, version);
        }
        let found = search(root.path()).all();
        let versions: Vec<&str> = found.usable.iter().map(|one| &*one.version).collect();
        assert_eq!(versions, ["18.1", "18beta1", "16.2", "15.18", "15.9"]);
        let text = found.rejected.iter().map(|one| one.why.clone());
        let text: Vec<String> = text.collect();
        assert_eq!(text.len(), 2);
        assert!(text[0].contains("PostgreSQL 13.9, and only 15 to 18"));
    }

    #[test]
    fn the_data_directory_decides_the_major() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path(), "a", "15.18");
        fake(root.path(), "b", "17.2");
        let search = search(root.path());
        let data = Path::new("/data");
        assert_eq!(search.find_for(data, 15).unwrap().version, "15.18");
        let text = search.find_for(data, 16).unwrap_err().to_string();
        assert!(text.contains("/data was made by PostgreSQL 16"), "{text}");
        assert!(text.contains("17.2, 15.18"), "{text}");
        let text = search.find_for(data, 12).unwrap_err().to_string();
        assert!(text.contains("only 15 to 18 are supported"), "{text}");
    }

    #[test]
    fn a_named_folder_is_used_or_refused_but_never_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let old = fake(root.path(), "old", "14.1");
        let new = fake(root.path(), "new", "15.1");
        let mut search = search(root.path());
        search.variable = Some(new.join("postgres"));
        assert_eq!(search.find().unwrap().version, "15.1");
        search.explicit = Some(old);
        let text = search.find().unwrap_err().to_string();
        assert!(text.contains("the setting bin_dir names"), "{text}");
        assert!(text.contains("PostgreSQL 14.1"), "{text}");
        search.explicit = Some(root.path().join("nowhere"));
        let text = search.find().unwrap_err().to_string();
        assert!(text.contains("not both there"), "{text}");
    }

    #[test]
    fn without_any_the_error_says_how_to_install_one() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path(), "old", "9.6.1");
        let text = search(root.path()).find().unwrap_err().to_string();
        for part in [
            "no PostgreSQL server 15 to 18 was found",
            "PostgreSQL 9.6.1",
            "apt-get install",
            "dnf install",
            "brew install",
            "ODF_PG_BIN",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn links_and_wrapper_scripts_are_followed() {
        let root = tempfile::tempdir().unwrap();
        let real = fake(root.path(), "real", "16.1");
        let shims = fake(root.path(), "shims", "16.1");
        script(
            &shims.join("pg_config"),
            &format!("#!/bin/sh\necho '{}'\n", real.display()),
        );
        let search = Search {
            path: Some(shims.into()),
            ..Search::default()
        };
        let found = search.all();
        assert_eq!(found.usable.len(), 1);
        assert_eq!(found.usable[0].bin_dir, fs::canonicalize(real).unwrap());
    }
}
