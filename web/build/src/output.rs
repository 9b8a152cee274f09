//! Files and folders of the result.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Creates a folder next to `target`, to be renamed to it.
pub fn new_folder_next_to(target: &Path) -> Result<TempDir> {
    let parent = target.parent().context("the output has no parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let folder = tempfile::Builder::new().prefix(".page-").tempdir_in(parent);
    folder.with_context(|| format!("cannot create a folder in {}", parent.display()))
}

/// Renames a folder to `target`, unless that has the same content already: the server is only built again if the files
/// that it embeds are newer.
pub fn replace(target: &Path, new: TempDir) -> Result<()> {
    if target.exists() {
        if read_folder(new.path())? == read_folder(target)? {
            return Ok(());
        }
        fs::remove_dir_all(target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    fs::rename(new.path(), target).with_context(|| format!("cannot write {}", target.display()))?;
    // Temporary folders are private, but other users may run the server.
    #[cfg(unix)]
    fs::set_permissions(target, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    // Nothing is left to remove.
    let _ = new.keep();
    Ok(())
}

/// Returns the content of all files below a folder by their paths.
fn read_folder(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.strip_prefix(folder)?;
            files.extend(read_folder(&path)?.into_iter().map(|(inner, bytes)| (name.join(inner), bytes)));
        } else {
            files.insert(path.strip_prefix(folder)?.to_owned(), fs::read(&path)?);
        }
    }
    Ok(files)
}

/// Copies a file under a name with the hash of its content, which browsers may cache without asking again; returns the
/// name.
pub fn copy_hashed(file: &Path, folder: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let part = |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).map(str::to_owned);
    let (stem, extension) =
        part(file.file_stem()).zip(part(file.extension())).context("not a file with an extension")?;
    let name = format!("{stem}-{}.{extension}", hex::encode(&Sha256::digest(&bytes)[..8]));
    fs::write(folder.join(&name), bytes)?;
    Ok(name)
}

/// Copies a folder and everything below it.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for (path, bytes) in read_folder(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = to.join(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_content_replaces_a_folder() -> Result<()> {
        let root = tempfile::tempdir()?;
        let target = root.path().join("dist");
        let write = |content: &str| -> Result<std::time::SystemTime> {
            let folder = new_folder_next_to(&target)?;
            fs::create_dir(folder.path().join("samples"))?;
            fs::write(folder.path().join("samples/cat.jpg"), content)?;
            replace(&target, folder)?;
            assert_eq!(fs::read_to_string(target.join("samples/cat.jpg"))?, content);
            assert_eq!(fs::read_dir(root.path())?.count(), 1);
            Ok(fs::metadata(target.join("samples/cat.jpg"))?.modified()?)
        };
        let first = write("one")?;
        assert_eq!(write("one")?, first);
        assert_ne!(write("two")?, first);
        Ok(())
    }

    #[test]
    fn names_contain_the_hash_of_the_content() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("style.css");
        fs::write(&file, "one")?;
        let first = copy_hashed(&file, folder.path())?;
        fs::write(&file, "two")?;
        assert_ne!(copy_hashed(&file, folder.path())?, first);
        assert_eq!(fs::read_to_string(folder.path().join(&first))?, "one");
        Ok(())
    }
}
