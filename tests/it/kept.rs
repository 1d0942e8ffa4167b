//! The int8 form of a checkpoint in a file beside it: written when asked, used only where it is that of these very weights.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use mambascope_core::checkpoint::{KEPT, RecastError, embedded, load, recast, unhurried};
use mambascope_core::model::{Model, Source};
use mambascope_core::tensor::Dtype;
use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::cli::program;
use crate::tiny::{Part, Tiny, file_of, fixture};

fn open(path: &Path) -> Model {
    load(path, &unhurried).unwrap()
}

fn int8(model: &Model, keep: bool) -> Result<Model, RecastError> {
    let go_on = &mut |_: &'static str, _, _| ControlFlow::Continue(());
    recast(model, Dtype::Int8, keep, go_on).map(Option::unwrap)
}

/// A copy of a fixture in a folder of its own.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// Every bit of the weights.
#[track_caller]
fn assert_same(one: &Model, other: &Model) {
    let pairs = one.tensors().zip(other.tensors());
    assert_eq!(one.tensors().count(), other.tensors().count());
    for (one, other) in pairs {
        assert_eq!((one.dtype(), one.shape()), (other.dtype(), other.shape()));
        assert_eq!(one.raw(), other.raw());
    }
}

/// What is said of the file, the last of the notes.
fn note(model: &Model) -> &str {
    model.warnings.last().map_or("", String::as_str)
}

#[test]
fn what_was_kept_is_what_would_be_made() {
    for name in [
        "mamba1-tiny",
        "mamba1-odd",
        "mamba2-tiny",
        "jamba-tiny",
        "llama-tiny",
        "mamba1-tiny-original",
    ] {
        let folder = copy(name);
        let file = folder.path().join(KEPT);
        let stored = open(folder.path());
        let made = int8(&stored, false).unwrap();
        assert!(!file.exists(), "{name}: nobody asked for it");
        assert_eq!(made.warnings, stored.warnings);

        let kept = int8(&stored, true).unwrap();
        assert!(note(&kept).contains("made and kept in"), "{}", note(&kept));
        assert_same(&made, &kept);

        // Of a folder that was moved since, as a checkpoint is with its form.
        let moved = tempfile::tempdir().unwrap();
        let there = moved.path().join("moved");
        fs::rename(folder.path(), &there).unwrap();
        for keep in [false, true] {
            let before = fs::metadata(there.join(KEPT)).unwrap().modified().unwrap();
            let stored = open(&there);
            let read = int8(&stored, keep).unwrap();
            assert!(note(&read).contains("was read from"), "{}", note(&read));
            assert_same(&made, &read);
            assert!(read.tensors().any(|tensor| tensor.dtype() == Dtype::Int8));
            for tensor in read
                .tensors()
                .filter(|tensor| tensor.dtype() == Dtype::Int8)
            {
                assert!(tensor.is_read_in_place(), "{name}: no copy");
            }
            let after = fs::metadata(there.join(KEPT)).unwrap().modified().unwrap();
            assert_eq!(before, after, "a file that fits is left alone");
        }
        // Only int8 has a file, and it is not a checkpoint of its own.
        let go_on = &mut |_: &'static str, _, _| ControlFlow::Continue(());
        let halves = recast(&stored, Dtype::F16, false, go_on).unwrap().unwrap();
        assert_eq!(halves.warnings, stored.warnings);
        assert_same(&open(&there.join(KEPT)), &stored);
    }
}

#[test]
fn the_file_is_one_that_others_can_read() {
    let folder = copy("mamba1-odd");
    let stored = open(folder.path());
    let kept = int8(&stored, true).unwrap();
    let bytes = fs::read(folder.path().join(KEPT)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let q = file.tensor("embedding").unwrap();
    let scales = file.tensor("embedding.scales").unwrap();
    assert_eq!(q.dtype(), safetensors::Dtype::I8);
    assert_eq!(q.shape(), stored.embedding.shape());
    // 48 columns: one block a row.
    assert_eq!(scales.shape(), [67, 1]);
    let scales: Vec<f32> = scales
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let q = q.data().iter().enumerate();
    let values: Vec<f32> = q
        .map(|(i, &q)| f32::from(q as i8) * scales[i / 48])
        .collect();
    assert_eq!(values, kept.embedding.as_f32());
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let notes = header.metadata().clone().unwrap();
    assert_eq!(notes["format"], "mambascope int8, blocks of 128, version 1");
    assert!(notes["layers.2.in_proj"].starts_with("F32 "), "{notes:?}");
}

#[test]
fn a_form_of_other_weights_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(KEPT);
    Tiny::new().write(folder.path());
    int8(&open(folder.path()), true).unwrap();
    let name = "backbone.layers.0.mixer.in_proj.weight";
    // One bit of one weight, the last; length and header stay.
    let mut other = Tiny::new();
    let part = other.parts.get_mut(name).unwrap();
    *part.bytes.last_mut().unwrap() ^= 1;
    other.write(folder.path());
    let stored = open(folder.path());
    let made = int8(&stored, false).unwrap();
    let said = note(&made);
    for needle in [
        KEPT,
        "other weights",
        "layers.0.in_proj was",
        "made from the checkpoint",
    ] {
        assert!(said.contains(needle), "{needle:?} is not in: {said}");
    }
    assert_same(&made, &stored.clone().recast(Dtype::Int8).unwrap());

    let old = fs::read(&file).unwrap();
    let anew = int8(&stored, true).unwrap();
    assert!(
        note(&anew).contains("made anew and kept there"),
        "{}",
        note(&anew)
    );
    assert_ne!(fs::read(&file).unwrap(), old);
    assert_same(&int8(&stored, false).unwrap(), &made);
    assert!(note(&int8(&stored, false).unwrap()).contains("was read from"));

    // The same numbers in another format are other weights too; so is a model of other sizes.
    let half = Part::half("F16", &[16, 8], 0x3c00);
    Tiny::new()
        .with("backbone.embeddings.weight", half)
        .write(folder.path());
    let said = int8(&open(folder.path()), false).unwrap();
    assert!(
        note(&said).contains("embedding was \"F32 "),
        "{}",
        note(&said)
    );
    let narrow = copy("mamba2-tiny");
    fs::copy(&file, narrow.path().join(KEPT)).unwrap();
    let said = int8(&open(narrow.path()), false).unwrap();
    assert!(note(&said).contains("tensors, wanted"), "{}", note(&said));
}

/// Splits a file into its header and its data.
fn split(file: &[u8]) -> (String, Vec<u8>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(file[8..8 + length].to_vec()).unwrap();
    (header.trim_end().to_owned(), file[8 + length..].to_vec())
}

#[test]
fn a_damaged_file_is_said_and_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(KEPT);
    Tiny::new().write(folder.path());
    let stored = open(folder.path());
    let made = int8(&stored, true).unwrap();
    let good = fs::read(&file).unwrap();
    let (header, data) = split(&good);
    let replaced = |from: &str, to: &str| {
        assert!(header.contains(from), "{from} is not in {header}");
        file_of(&header.replacen(from, to, 1), &data)
    };
    let mut bit = good.clone();
    *bit.last_mut().unwrap() ^= 0x40;
    let scales = r#""embedding.scales":{"dtype":"F32","shape":[16,1]"#;
    for (bytes, needle) in [
        (bit, "has the CRC-32"),
        (
            good[..good.len() - 1].to_vec(),
            "it is damaged: the tensors take",
        ),
        (Vec::new(), "at least 8 for the length"),
        (vec![0xff; 40], "it is damaged: the header is said to have"),
        (replaced("version 1", "version 2"), "version 2"),
        (
            replaced("\"format\"", "\"form\""),
            "it says that it is nothing",
        ),
        (replaced("F32 ", "BF16 "), "made from other weights"),
        (replaced("F32 ", ""), "made from other weights"),
        (
            replaced("\"embedding\":\"F32 ", "\"embeddin\":\"F32 "),
            "wanted a number format and two CRC-32",
        ),
        (replaced("\"I8\"", "\"U8\""), "wanted I8"),
        (
            replaced(scales, &scales.replace("[16,1]", "[1,16]")),
            "wanted F32 [16, 1]",
        ),
        (
            replaced("\"embedding\":{", "\"embeddings\":{"),
            "is missing, wanted I8",
        ),
    ] {
        fs::write(&file, &bytes).unwrap();
        let again = int8(&stored, false).unwrap();
        let said = note(&again);
        assert!(
            said.contains(needle) && said.contains(KEPT),
            "{needle:?} is not in: {said}"
        );
        assert_same(&again, &made);
        assert_eq!(fs::read(&file).unwrap(), bytes, "nobody asked for another");
    }
    // Any byte.
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[at] ^= 0x11;
        fs::write(&file, changed).unwrap();
        let again = int8(&stored, false).unwrap();
        assert_same(&again, &made);
    }
    fs::write(&file, &good[..100]).unwrap();
    assert!(note(&int8(&stored, true).unwrap()).contains("made anew"));
    assert_same(&int8(&stored, false).unwrap(), &made);
}

#[test]
fn without_a_place_to_keep_it_nothing_is_made() {
    let error = int8(&embedded().unwrap(), true).unwrap_err().to_string();
    assert!(
        error.contains("novel-mamba-3m is not in a folder"),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    let stored = open(folder.path());
    let go_on = &mut |_: &'static str, _, _| ControlFlow::Continue(());
    let error = recast(&stored, Dtype::Bf16, true, go_on).unwrap_err();
    assert!(error.to_string().contains("not bf16"), "{error}");
    // Where a folder is in the way.
    let file = folder.path().join(KEPT);
    fs::create_dir(&file).unwrap();
    let error = int8(&stored, true).unwrap_err().to_string();
    assert!(
        error.contains("could not be kept") && error.contains(KEPT),
        "{error}"
    );
    let said = int8(&stored, false).unwrap();
    assert!(
        note(&said).contains("not a regular file"),
        "{}",
        note(&said)
    );
    fs::remove_dir(&file).unwrap();
    // A link leads to a file that is not this program's to replace.
    #[cfg(unix)]
    {
        let weights = folder.path().join("model.safetensors");
        let before = fs::read(&weights).unwrap();
        std::os::unix::fs::symlink(&weights, &file).unwrap();
        let error = int8(&stored, true).unwrap_err().to_string();
        assert!(error.contains("is a link"), "{error}");
        assert!(int8(&stored, false).is_ok());
        assert_eq!(fs::read(&weights).unwrap(), before);
        fs::remove_file(&file).unwrap();
    }
    // A model in a folder that is gone.
    let gone = Model {
        source: Source::Folder(folder.path().join("gone")),
        ..stored.clone()
    };
    assert!(int8(&gone, true).is_err() && int8(&gone, false).is_ok());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "config and weights: {left:?}");
}

#[test]
fn keeping_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    let stored = open(folder.path());
    let stop = &mut |_: &'static str, _, _| ControlFlow::Break(());
    assert!(recast(&stored, Dtype::Int8, true, stop).unwrap().is_none());
    assert!(!folder.path().join(KEPT).exists());
    int8(&stored, true).unwrap();
    assert!(recast(&stored, Dtype::Int8, false, stop).unwrap().is_none());
}

#[test]
fn commands_keep_it_when_asked_and_say_what_they_read() {
    let folder = copy("mamba1-odd");
    let file = folder.path().join(KEPT);
    let model = folder.path().to_str().unwrap();
    let run = |more: &[&str]| {
        let start = [
            "run", "--model", model, "--prompt", "1 2 3", "--tokens", "8", "--greedy",
        ];
        let output = std::process::Command::new(program())
            .args([&start[..], more].concat())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let written = |stdout: &str| stdout.split("\n\n").next().unwrap().to_owned();
    let (_, stored, _) = run(&[]);
    assert!(!stored.contains("weights"), "{stored}");
    let (code, made, notes) = run(&["--dtype", "int8"]);
    assert_eq!((code, file.exists()), (Some(0), false));
    assert!(
        made.contains("(fast backend, int8 weights)") && !notes.contains(KEPT),
        "{made}{notes}"
    );
    let (_, kept, notes) = run(&["--dtype", "int8", "--keep"]);
    assert!(
        notes.contains("made and kept in") && file.exists(),
        "{notes}"
    );
    let (_, read, notes) = run(&["--dtype", "int8"]);
    assert!(notes.contains("was read from"), "{notes}");
    assert_eq!(written(&made), written(&kept));
    assert_eq!(written(&made), written(&read));
    fs::write(&file, "not this").unwrap();
    let (code, anew, notes) = run(&["--dtype", "int8"]);
    assert!(
        code == Some(0) && notes.contains("was not used, for it is damaged"),
        "{notes}"
    );
    assert_eq!(written(&made), written(&anew));
    for dtype in ["f32", "f16", "bf16"] {
        let (code, text, _) = run(&["--dtype", dtype]);
        assert_eq!(code, Some(0));
        assert!(text.contains(&format!(", {dtype} weights)")), "{text}");
        if dtype == "f32" {
            assert_eq!(written(&text), written(&stored), "it is stored so");
        }
    }
    let (code, _, error) = run(&["--dtype", "bf16", "--keep"]);
    assert!(
        code == Some(1) && error.contains("only the int8 form"),
        "{error}"
    );

    let bench = [
        "bench",
        "--dtype",
        "int8",
        "--keep",
        "--prompt",
        "4",
        "--tokens",
        "1",
        "--repeats",
        "1",
        "--backend",
        "fast",
    ];
    let bench = |more: &[&str]| {
        std::process::Command::new(program())
            .args([&bench[..], more].concat())
            .output()
            .unwrap()
    };
    let there = bench(&["--model", model]);
    let said = String::from_utf8(there.stderr).unwrap();
    assert!(
        there.status.success() && said.contains("made anew and kept there"),
        "{said}"
    );
    let embedded = bench(&[]);
    let said = String::from_utf8(embedded.stderr).unwrap();
    assert!(
        embedded.status.code() == Some(1) && said.contains("not in a folder"),
        "{said}"
    );
}
