//! Takes the source files that the pages quote into the program, so that a quotation is what stood there when it was built, the
//! numbers by which the CUDA scan is cut, and the questions of the interview practice.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = root.join("assets/lessons/en");
    println!("cargo::rerun-if-changed={}", pages.display());
    let mut quoted = BTreeSet::new();
    for page in fs::read_dir(&pages)? {
        let path = page?.path();
        println!("cargo::rerun-if-changed={}", path.display());
        for line in fs::read_to_string(&path)?.lines() {
            let value = line.strip_prefix("file = \"");
            quoted.extend(value.and_then(|value| Some(value.split_once('"')?.0.to_owned())));
        }
    }
    let mut list = String::from("const QUOTED: &[(&str, &str)] = &[\n");
    for file in quoted {
        let path = root.join(&file).canonicalize()?;
        let _ = writeln!(list, "({file:?}, include_str!({:?})),", path.display());
    }
    list.push_str("];\n");
    write("quoted.rs", &list)?;
    own_kernel(&root)?;
    practice(&root)
}

/// The numbers by which this program's CUDA scan is cut, as they stand in its source: a lesson shows that kernel and knows none.
fn own_kernel(root: &Path) -> io::Result<()> {
    let host = root.join("kernels/src/scan.rs");
    let device = root.join("kernels/src/cuda/scan.cu");
    let (host_text, device_text) = (source(&host)?, source(&device)?);
    let missing = |name: &str, path: &Path| {
        io::Error::other(format!("{} has no number {name}", path.display()))
    };
    let mut list = String::new();
    for name in [
        "WARP",
        "TILE",
        "LEAN_TILE",
        "LEAN_HELD",
        "FEWEST_CHANNELS",
        "WARPS_WANTED",
        "SHORTEST_SEGMENT",
    ] {
        let text = host_text.split_once(&format!("const {name}: usize = "));
        let digits = text.and_then(|(_, rest)| rest.split_once(';'));
        let number: usize = digits
            .and_then(|(digits, _)| digits.parse().ok())
            .ok_or_else(|| missing(name, &host))?;
        let _ = writeln!(list, "pub const {name}: usize = {number};");
        // What both sides of the kernel have to know is written twice there.
        let is_shared = name.ends_with("TILE");
        if is_shared && !device_text.contains(&format!("#define {name} {number}\n")) {
            return Err(missing(name, &device));
        }
    }
    write("own_kernel.rs", &list)
}

/// The text of a file that is watched.
fn source(path: &Path) -> io::Result<String> {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path)
}

/// The files of questions, by name: `FILES`, name and text of each.
fn practice(root: &Path) -> io::Result<()> {
    let folder = root.join("assets/practice/en");
    // A folder that is not there is never up to date: its parent is watched until it is.
    let watched = if folder.exists() {
        folder.clone()
    } else {
        root.join("assets")
    };
    println!("cargo::rerun-if-changed={}", watched.display());
    let mut list = String::from("const FILES: &[(&str, &str)] = &[\n");
    let entries = fs::read_dir(&folder).map_or_else(|_| Vec::new(), Iterator::collect);
    let mut paths = BTreeSet::new();
    for entry in entries {
        paths.insert(entry?.path());
    }
    for path in paths {
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let path = path.canonicalize()?;
            let _ = writeln!(list, "({name:?}, include_str!({:?})),", path.display());
        }
    }
    list.push_str("];\n");
    write("practice.rs", &list)
}

fn write(name: &str, text: &str) -> io::Result<()> {
    let folder = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&folder).join(name), text)
}
