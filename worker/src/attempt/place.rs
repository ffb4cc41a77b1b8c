//! Names of files: from a template and a chunk's key to a path that cannot leave its root.
//!
//! Pure text; nothing here touches a disk. Two different keys never share a name.

use std::path::{Component, Path, PathBuf};

use common::domain::{Fence, WorkItem};
use sha2::{Digest, Sha256};

use super::Failure;

/// A file system allows 255 bytes in a name; a name is made of key, fence and more.
const MAX_KEY: usize = 160;
const PACKINGS: [&str; 8] = [".gz", ".zst", ".bz2", ".xz", ".lz4", ".br", ".zip", ".sz"];

/// A key as one part of a file name: every byte outside `[A-Za-z0-9._-]` becomes `%XX`, a key
/// of `.` or `..` too; what would be too long for a file name is cut and ends in `~` and a hash.
#[must_use]
pub fn sanitise(key: &str) -> String {
    if key.is_empty() {
        // A name of no other key: `%` itself becomes `%25`.
        return "%".to_owned();
    }
    let dots_only = matches!(key, "." | "..");
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if plain || (byte == b'.' && !dots_only) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > MAX_KEY {
        let digest = hex::encode(Sha256::digest(key.as_bytes()));
        name.truncate(MAX_KEY - 33);
        name.push('~');
        name.push_str(&digest[..32]);
    }
    name
}

/// The name of an attempt's staged file without its extension: `<data set>.<key>.<fence>`.
#[must_use]
pub fn staged_stem(dataset: &str, key: &str, fence: Fence) -> String {
    // No dot in the first part, so that it is clear where the key begins.
    let dataset = sanitise(dataset).replace('.', "%2E");
    format!("{dataset}.{}.{fence}", sanitise(key))
}

/// The extension of what a template names, dot included: `.parquet`, `.csv.gz`, or nothing.
pub(crate) fn extension(template: &str) -> &str {
    let start = template.rfind(['/', '}']).map_or(0, |at| at + 1);
    let (tail, named) = (&template[start..], template[..start].ends_with('}'));
    let last_dot = |text: &str| text.rfind('.').filter(|at| named || *at > 0);
    let Some(dot) = last_dot(tail) else {
        return "";
    };
    if PACKINGS.contains(&&tail[dot..]) {
        return &tail[last_dot(&tail[..dot]).unwrap_or(dot)..];
    }
    &tail[dot..]
}

/// The path below the root under which a chunk is published, from the data set's template.
///
/// # Errors
/// A permanent [`Failure`] for a template that names no place of its own for each chunk, that
/// has an unknown placeholder, or that leads out of the root or into the staging directory.
pub(crate) fn published_path(template: &str, item: &WorkItem) -> Result<PathBuf, Failure> {
    let mut template = template.to_owned();
    if !template.contains("{fence}") {
        let end = template.len() - extension(&template).len();
        template.insert_str(end, ".{fence}");
    }
    // A fence is unique for its chunk only.
    if item.plan_chunks > 1 && !template.contains("{chunk}") && !template.contains("{ordinal}") {
        return Err(Failure::permanent(format!(
            "the path {template:?} of data set {} is the same for all {} chunks (hint: put {{chunk}} in it)",
            item.dataset, item.plan_chunks
        )));
    }
    let path = expand(&template, item)?;
    let path = inside_root(&path)?;
    if path.starts_with(super::STAGING_DIR) {
        return Err(Failure::permanent(format!(
            "the path {} lies in the directory that is kept for staging",
            path.display()
        )));
    }
    Ok(path)
}

fn expand(template: &str, item: &WorkItem) -> Result<String, Failure> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let Some(length) = rest[open..].find('}') else {
            break;
        };
        let name = &rest[open + 1..open + length];
        match name {
            "chunk" => out.push_str(&sanitise(&item.key)),
            "fence" => out.push_str(&item.fence.to_string()),
            "ordinal" => out.push_str(&item.ordinal.to_string()),
            "generation" => out.push_str(&item.generation.to_string()),
            _ => {
                return Err(Failure::permanent(format!(
                    "the path {template:?} holds {{{name}}}; expected {{chunk}}, {{fence}}, {{ordinal}} or {{generation}}"
                )));
            }
        }
        rest = &rest[open + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// A relative path that stays where it starts.
///
/// # Errors
/// A permanent [`Failure`] for an absolute or empty path and for one with `..`.
pub(crate) fn inside_root(path: &str) -> Result<PathBuf, Failure> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Failure::permanent(format!(
                    "the path {path:?} leads out of its connection's root (expected a relative path without ..)"
                )));
            }
        }
    }
    if clean.as_os_str().is_empty() || path.contains('\0') {
        return Err(Failure::permanent(format!(
            "the path {path:?} names no file"
        )));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use common::domain::{Bounds, ChunkId, Fence, WorkItem};
    use proptest::prelude::*;

    use super::{extension, inside_root, published_path, sanitise, staged_stem};

    fn item(key: &str, plan_chunks: i64) -> WorkItem {
        WorkItem {
            chunk_id: ChunkId(1),
            flow: "f".into(),
            dataset: "orders".into(),
            key: key.into(),
            ordinal: 7,
            plan_chunks,
            bounds: Bounds::Single,
            attempt: 1,
            fence: Fence(42),
            generation: 3,
            lane_id: 1,
            job_id: 1,
            job_version: 1,
            inputs: Vec::new(),
            fan_in: Vec::new(),
        }
    }

    fn published(template: &str, key: &str) -> String {
        match published_path(template, &item(key, 10)) {
            Ok(path) => path.to_str().expect("utf-8").to_owned(),
            Err(failure) => failure.error,
        }
    }

    #[test]
    fn templates_get_the_fence_and_the_key_made_safe() {
        assert_eq!(
            published("o/{chunk}.{fence}.parquet", "00042"),
            "o/00042.42.parquet"
        );
        assert_eq!(published("o/{chunk}.csv.gz", "a"), "o/a.42.csv.gz");
        assert_eq!(published("o/{chunk}", "a.b"), "o/a.b.42");
        assert_eq!(published("{ordinal}/data.v2.csv", "k"), "7/data.v2.42.csv");
        assert_eq!(
            published("./g{generation}/{chunk}/.hidden", ".."),
            "g3/%2E%2E/.hidden.42"
        );
        assert_eq!(
            published("{chunk}.x", "../../etc/passwd"),
            "..%2F..%2Fetc%2Fpasswd.42.x"
        );
    }

    #[test]
    fn templates_that_lead_elsewhere_are_refused() {
        for template in [
            "../{chunk}",
            "/abs/{chunk}",
            "a/../../{chunk}",
            ".odf-staging/{chunk}",
        ] {
            assert!(
                published(template, "k").starts_with("the path"),
                "{template}"
            );
        }
        assert!(published("{chunk}/{what}", "k").contains("{what}"));
        assert!(published("all.csv", "k").contains("same for all 10 chunks"));
        assert!(published_path("all.csv", &item("k", 1)).is_ok());
        assert!(inside_root("").is_err());
        assert!(inside_root(".").is_err());
    }

    #[test]
    fn extensions_keep_their_packing() {
        for (template, expected) in [
            ("a/{chunk}.{fence}.parquet", ".parquet"),
            ("a/{chunk}.csv.gz", ".csv.gz"),
            ("a.b/{chunk}", ""),
            ("a/.hidden", ""),
            ("a/x.tar.zst", ".tar.zst"),
            ("{chunk}.gz", ".gz"),
            ("x", ""),
        ] {
            assert_eq!(extension(template), expected, "{template}");
        }
    }

    #[test]
    fn a_long_key_still_makes_a_file_name() {
        let long = "\u{e9}".repeat(400);
        let other = format!("{}x", "\u{e9}".repeat(400));
        assert!(sanitise(&long).len() <= 160);
        assert_ne!(sanitise(&long), sanitise(&other));
    }

    #[test]
    fn stems_of_dotted_names_do_not_meet() {
        let one = staged_stem("a.b", "c", Fence(1));
        let two = staged_stem("a", "b.c", Fence(1));
        assert_ne!(one, two);
    }

    proptest! {
        #[test]
        fn sanitised_keys_are_safe_and_distinct(keys in proptest::collection::hash_set(".*", 1..20)) {
            let names: HashSet<String> = keys.iter().map(|key| sanitise(key)).collect();
            prop_assert_eq!(names.len(), keys.len());
            for name in names {
                prop_assert!(name != "." && name != "..");
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-%~".contains(&b)), "{}", name);
            }
        }
    }
}
