//! Files written over others: whole or not at all, and never over what must stay.

use std::fs;
use std::io::Error;
use std::path::Path;

use mambascope_core::export::write_file;

/// What is said when `text` is written to `path`; nothing when it was.
fn write(path: &Path, text: &str) -> String {
    let written = write_file(path, |writer| writer.write_all(text.as_bytes()));
    written.err().map_or_else(String::new, |e| e.to_string())
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let names = fs::read_dir(folder).unwrap().map(name);
    let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_new_or_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.csv");
    assert_eq!(write(&file, "first"), "");
    assert_eq!(write(&file, "second"), "");
    let failed = write_file(&file, |writer| {
        writer.write_all(b"half")?;
        Err(Error::other("no space left"))
    });
    let said = failed.unwrap_err().to_string();
    assert!(
        said.contains("t.csv: no space left; nothing was changed"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "second");
    assert_eq!(names(folder.path()), ["t.csv"]);
}

#[test]
fn a_folder_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path(), &folder.path().join(".."), Path::new("")] {
        assert!(write(path, "x").contains("this is a folder"), "{path:?}");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_read_only_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.csv");
    fs::write(&file, "kept").unwrap();
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions).unwrap();
    assert!(write(&file, "x").contains("read-only"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_its_file_is_replaced() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    fs::write(there.join("file"), "old").unwrap();
    symlink("../there/file", here.join("link")).unwrap();
    symlink("link", here.join("link-to-link")).unwrap();
    assert_eq!(write(&here.join("link-to-link"), "new"), "");
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "new");
    assert!(here.join("link").is_symlink() && here.join("link-to-link").is_symlink());

    symlink("no-such-file", here.join("nowhere")).unwrap();
    assert!(write(&here.join("nowhere"), "x").contains("leads nowhere"));
    assert!(here.join("nowhere").is_symlink());
    assert_eq!(names(&here), ["link", "link-to-link", "nowhere"]);
    assert_eq!(names(&there), ["file"]);
}

#[cfg(unix)]
#[test]
fn permissions_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.csv");
    for mode in [0o600, 0o640, 0o755] {
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(write(&file, "new"), "");
        let found = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{found:o}");
    }
}

#[cfg(unix)]
#[test]
fn devices_and_pipes_are_refused() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let device = folder.path().join("device");
    symlink("/dev/null", &device).unwrap();
    for path in [pipe.as_path(), &device, Path::new("/dev/null")] {
        assert!(write(path, "x").contains("not a regular file"), "{path:?}");
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert!(fs::metadata(&device).unwrap().file_type().is_char_device());
    assert_eq!(names(folder.path()), ["device", "pipe"]);
}
