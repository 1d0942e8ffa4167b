//! What ARCHITECTURE.md promises about the files themselves.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines beyond which a file should be two.
const MOST_LINES: usize = 800;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Files below `folder` with one of these endings, with their text, named from the workspace on.
fn texts(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if ending.is_some_and(|ending| endings.contains(&ending)) {
                let name = path.strip_prefix(workspace()).unwrap().to_str().unwrap();
                found.push((name.replace('\\', "/"), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    ["app", "core", "kernels", "lessons", "tests"]
        .iter()
        .flat_map(|folder| texts(folder, &["rs", "cu"]))
        .collect()
}

/// Names of what a crate is built from and tested with.
fn dependencies(of: &str) -> Vec<String> {
    let manifest = fs::read_to_string(workspace().join(of).join("Cargo.toml")).unwrap();
    let mut names = Vec::new();
    let mut is_list = false;
    for line in manifest.lines() {
        if let Some(table) = line.trim().strip_prefix('[') {
            // Also those of one system, and of one name: [dependencies.name].
            is_list = table.contains("dependencies");
            assert!(
                !table.contains("dependencies."),
                "{of}: wanted one line for each: {line}"
            );
        } else if is_list && let Some((name, _)) = line.split_once(['.', '=']) {
            names.push(name.trim().to_owned());
        }
    }
    assert!(!names.is_empty(), "{of}");
    names
}

fn assert_free_of(of: &str, unwanted: &[&str]) {
    let found = dependencies(of);
    let found: Vec<_> = found
        .iter()
        .filter(|name| unwanted.iter().any(|start| name.starts_with(start)))
        .collect();
    assert!(found.is_empty(), "{of} must not depend on {found:?}");
}

const WINDOW: [&str; 6] = ["egui", "eframe", "winit", "wgpu", "glow", "rfd"];
const DEVICE: [&str; 3] = ["cudarc", "wgpu", "mambascope-kernels"];

#[test]
fn the_core_opens_no_window_and_knows_no_device() {
    assert_free_of("core", &WINDOW);
    assert_free_of("core", &DEVICE);
    assert_free_of("core", &["mambascope"]);
}

#[test]
fn the_kernels_open_no_window() {
    assert_free_of("kernels", &WINDOW);
    assert_free_of("kernels", &["mambascope-lessons"]);
}

#[test]
fn the_lessons_never_see_kernels() {
    assert_free_of("lessons", &DEVICE);
}

#[test]
fn what_is_looked_for_would_be_found() {
    for name in ["eframe", "egui", "rfd", "mambascope-kernels"] {
        assert!(
            dependencies("app").iter().any(|found| found == name),
            "{name}"
        );
    }
    assert!(sources().iter().any(|(name, _)| name == "core/src/lib.rs"));
    assert!(without_comments("a // b").trim() == "a");
    assert!(has_word("x{unsafe}", "unsafe") && !has_word("unsafe_code", "unsafe"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(name, text)| (text.lines().count(), name))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

fn without_comments(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.split(|c| !is_part(c)).any(|found| found == word)
}

#[test]
fn memory_is_trusted_in_four_places_only() {
    const ALLOWED: [&str; 4] = [
        // The mapping of weights.
        "core/src/checkpoint/folder.rs",
        // Instructions a processor was asked for.
        "core/src/backend/fast/bf16.rs",
        // The driver of a device.
        "kernels/",
        // The allocator that counts.
        "tests/it/memory.rs",
    ];
    let this = "tests/it/architecture.rs";
    for (name, text) in sources() {
        let is_allowed = ALLOWED.iter().any(|place| name.starts_with(place)) || name == this;
        let found = text
            .lines()
            .map(without_comments)
            .any(|line| has_word(line, "unsafe"));
        assert!(!found || is_allowed, "{name}");
    }
}

#[test]
fn nothing_leads_out_of_the_repository() {
    // In two parts each, so as not to be found here. A made-up home is an example for the reader.
    let outside = [
        ("../", "shared"),
        ("/wo", "rk/"),
        ("/ho", "me/"),
        ("/ro", "ot/"),
        ("/Use", "rs/"),
    ];
    let mut files = sources();
    for folder in ["app", "core", "kernels", "lessons", "tests", "assets"] {
        files.extend(texts(folder, &["toml", "md"]));
    }
    for name in ["Cargo.toml", "README.md", "ARCHITECTURE.md", ".ci/run"] {
        files.push((
            name.into(),
            fs::read_to_string(workspace().join(name)).unwrap(),
        ));
    }
    for (name, text) in files {
        let text = text.replace("/home/you/", "");
        for (start, end) in outside {
            assert!(
                !text.contains(&[start, end].concat()),
                "{name}: {start}{end}"
            );
        }
    }
}
