//! Takes the source files that the pages quote into the program, so that a quotation is what stood there when it was built.

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
    fs::write(
        Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("quoted.rs"),
        list,
    )
}
