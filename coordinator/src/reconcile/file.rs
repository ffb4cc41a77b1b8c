//! A published file as this host sees it: its size and SHA-256.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use common::endpoint::files;
use sha2::{Digest as _, Sha256};

/// Reads a published file whole; answers its bytes and `sha256:hex`.
///
/// # Errors
/// Why it could not be read, for people.
pub async fn measure(root: &Path, location: &str) -> Result<(i64, String), String> {
    let (root, location) = (root.to_owned(), location.to_owned());
    tokio::task::spawn_blocking(move || hash(&root, &location))
        .await
        .map_err(|error| format!("read the file: {error}"))?
}

fn hash(root: &Path, location: &str) -> Result<(i64, String), String> {
    if !root.is_dir() {
        return Err(format!(
            "the root {} is not on this host: run this where it is mounted",
            root.display()
        ));
    }
    let path = files::resolve(root, location).map_err(|error| error.to_string())?;
    let said = |error: io::Error| format!("read {}: {error}", path.display());
    let mut file = File::open(&path).map_err(said)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0_i64;
    loop {
        let n = file.read(&mut buffer).map_err(said)?;
        if n == 0 {
            let hex = hex::encode(hasher.finalize());
            return Ok((bytes, format!("sha256:{hex}")));
        }
        hasher.update(&buffer[..n]);
        bytes += i64::try_from(n).unwrap_or(i64::MAX);
    }
}
