//! Checkpoints on disk: what loads and how, and what each folder that does not is answered with.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use mambascope_core::checkpoint::{LoadError, embedded, load};
use mambascope_core::model::{MambaDims, MambaMixer, Mixer, MixerDims, Model, Source};
use mambascope_core::tensor::Dtype;
use serde_json::json;

use crate::cli::program;
use crate::tiny::{Part, Tiny, assert_says, fixture, tokenizer_json, weights_of};

fn open(path: &Path) -> Result<Model, LoadError> {
    load(path, &mambascope_core::checkpoint::unhurried)
}

fn mamba(model: &Model, layer: usize) -> &MambaMixer {
    match &model.layers[layer].mixer {
        Mixer::Mamba(mixer) => mixer,
        other => panic!("{other:?}"),
    }
}

// What loads.

#[test]
fn fixtures_load_with_their_sizes() {
    let tiny = open(&fixture("mamba1-tiny")).unwrap();
    assert_eq!(tiny.name, "mamba1-tiny");
    assert_eq!(tiny.source, Source::Folder(fixture("mamba1-tiny")));
    let dims = MambaDims {
        d_inner: 64,
        d_state: 8,
        d_conv: 4,
        dt_rank: 2,
        proj_bias: false,
        conv_bias: true,
        inner_norm: None,
    };
    assert_eq!(
        (
            tiny.config.vocab_size,
            tiny.config.d_model,
            tiny.config.blocks[0].mixer
        ),
        (96, 32, MixerDims::Mamba(dims))
    );
    assert_eq!(tiny.layers.len(), tiny.config.n_layers());
    assert!(tiny.head.is_none() && tiny.tokenizer.is_none() && tiny.card.is_none());
    assert_eq!(
        tiny.warnings,
        ["There is no tokenizer.json in the folder: texts are shown as token ids."]
    );
    assert_eq!(tiny.bytes_on_disk, 81896);
    assert_eq!(tiny.head().shape(), [96, 32]);

    let odd = open(&fixture("mamba1-odd")).unwrap();
    let dims = MambaDims {
        d_inner: 96,
        d_state: 16,
        d_conv: 3,
        dt_rank: 5,
        proj_bias: true,
        conv_bias: false,
        inner_norm: None,
    };
    assert_eq!(
        (
            odd.config.vocab_size,
            odd.config.d_model,
            odd.config.n_layers()
        ),
        (67, 48, 3)
    );
    assert_eq!(odd.config.blocks[1].mixer, MixerDims::Mamba(dims));
    assert!(odd.head.is_some());
    assert_eq!(mamba(&odd, 2).in_proj_bias.as_ref().unwrap().shape(), [192]);
    assert!(mamba(&odd, 2).conv_bias.is_none());
}

#[test]
fn a_mapped_tensor_has_the_values_of_the_file() {
    let model = open(&fixture("mamba1-tiny")).unwrap();
    let bytes = fs::read(fixture("mamba1-tiny").join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let a_log = file.tensor("backbone.layers.1.mixer.A_log").unwrap();
    assert_eq!(mamba(&model, 1).a_log.raw(), a_log.data());
    let first = f32::from_le_bytes(a_log.data()[..4].try_into().unwrap());
    assert_eq!(mamba(&model, 1).a_log.as_f32()[0], first);
}

#[test]
fn a_folder_is_found_from_its_files() {
    let folder = fixture("mamba1-tiny");
    for file in ["config.json", "model.safetensors"] {
        let model = open(&folder.join(file)).unwrap();
        assert_eq!(
            (model.name.as_str(), model.source),
            ("mamba1-tiny", Source::Folder(folder.clone())),
            "{file}"
        );
    }
}

#[test]
fn the_embedded_model_loads() {
    let model = embedded().unwrap();
    assert_eq!(
        (model.name.as_str(), &model.source),
        ("novel-mamba-3m", &Source::Embedded)
    );
    assert_eq!(
        (
            model.config.d_model,
            model.config.n_layers(),
            model.config.vocab_size
        ),
        (256, 6, 2048)
    );
    assert_eq!(model.warnings, [""; 0]);
    assert_eq!(model.tokenizer.as_ref().unwrap().len(), 2048);
    assert!(model.card.as_ref().unwrap().contains('#'));
    assert_eq!(model.dtypes(), [Dtype::Bf16, Dtype::F32]);
    assert!(
        model
            .tensors()
            .filter(|t| t.dtype() == Dtype::F32)
            .all(|t| t.as_f32().len() == t.len())
    );
    assert_eq!(
        model.tensors().map(|t| t.widened_bytes()).sum::<usize>(),
        0,
        "f32 is used where it lies"
    );
}

#[test]
fn progress_rises_from_zero_to_one() {
    let seen = RefCell::new(Vec::new());
    load(&fixture("mamba1-tiny"), &|done| {
        seen.borrow_mut().push(done);
        ControlFlow::Continue(())
    })
    .unwrap();
    let seen = seen.into_inner();
    assert!(seen.is_sorted() && seen.len() > 10, "{seen:?}");
    assert_eq!((seen.first(), seen.last()), (Some(&0.0), Some(&1.0)));
}

/// Splits the tiny checkpoint in two shards and writes an index whose file names went through `rename`.
pub fn write_shards(folder: &Path, rename: impl Fn(&str) -> String) {
    let tiny = Tiny::new();
    tiny.write(folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (i, is_mixer) in [false, true].into_iter().enumerate() {
        let shard = format!("model-0000{}-of-00002.safetensors", i + 1);
        let parts = tiny
            .parts
            .clone()
            .into_iter()
            .filter(|(name, _)| name.contains("mixer") == is_mixer)
            .collect();
        map.extend(
            std::collections::BTreeMap::keys(&parts)
                .map(|name| (name.clone(), json!(rename(&shard)))),
        );
        fs::write(folder.join(shard), weights_of(&parts)).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
}

#[test]
fn shards_load_like_one_file() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), str::to_owned);
    let whole = Tiny::new().load().unwrap();
    for path in [
        "",
        "model.safetensors.index.json",
        "model-00002-of-00002.safetensors",
    ] {
        let sharded = open(&folder.path().join(path)).unwrap();
        assert!(
            sharded
                .tensors()
                .zip(whole.tensors())
                .all(|(a, b)| a.raw() == b.raw() && a.shape() == b.shape())
        );
        assert!(sharded.bytes_on_disk > 0);
    }
}

#[test]
fn tensors_an_index_does_not_list_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), str::to_owned);
    assert_eq!(
        open(folder.path()).unwrap().warnings.len(),
        1,
        "no tokenizer"
    );
    let shard = "model-00002-of-00002.safetensors";
    let mut parts = Tiny::new().parts;
    parts.retain(|name, _| name.contains("mixer"));
    parts.insert("left.over".into(), Part::constant(&[3], 1.0));
    // Not the tensor that is listed, which is in the other shard.
    parts.insert("backbone.norm_f.weight".into(), Part::constant(&[8], 1.0));
    fs::write(folder.path().join(shard), weights_of(&parts)).unwrap();
    let warnings = open(folder.path()).unwrap().warnings;
    let wanted = format!(
        "does not list these tensors, which are left out: backbone.norm_f.weight in {shard}; left.over in {shard}."
    );
    assert!(
        warnings.iter().any(|w| w.ends_with(&wanted)),
        "{warnings:?}"
    );
}

#[test]
fn a_single_file_goes_before_an_index() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    fs::write(folder.path().join("model.safetensors.index.json"), "stale").unwrap();
    open(folder.path()).unwrap();
}

#[test]
fn weights_under_another_name_load_when_picked() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    let picked = folder.path().join("step-1000.safetensors");
    fs::rename(folder.path().join("model.safetensors"), &picked).unwrap();
    open(&picked).unwrap();
    assert_says(open(folder.path()), &["has no model.safetensors"]);
}

#[test]
fn a_folder_of_the_hub_cache_is_called_by_its_repository() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache
        .path()
        .join("models--state-spaces--mamba-130m-hf/snapshots/0123abcd");
    fs::create_dir_all(&folder).unwrap();
    Tiny::new().write(&folder);
    assert_eq!(open(&folder).unwrap().name, "state-spaces/mamba-130m-hf");
}

#[test]
fn a_card_is_read_and_never_stops_a_model() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    fs::write(folder.path().join("README.md"), "# Readme").unwrap();
    assert_eq!(
        open(folder.path()).unwrap().card.as_deref(),
        Some("# Readme")
    );
    let hub = "---\nlicense: mit\n---\n\n# Hub\n---\n";
    fs::write(folder.path().join("README.md"), hub).unwrap();
    let card = open(folder.path()).unwrap().card.unwrap();
    assert_eq!(card, "# Hub\n---\n", "the settings of the hub are left out");
    fs::write(folder.path().join("README.md"), "# Readme").unwrap();
    fs::write(folder.path().join("MODEL_CARD.md"), "# Card").unwrap();
    assert_eq!(open(folder.path()).unwrap().card.as_deref(), Some("# Card"));
    fs::write(
        folder.path().join("MODEL_CARD.md"),
        vec![b'x'; (1 << 20) + 1],
    )
    .unwrap();
    let model = open(folder.path()).unwrap();
    assert_eq!(model.card.as_deref(), Some("# Readme"));
    assert!(
        model
            .warnings
            .iter()
            .any(|w| w.contains("MODEL_CARD.md") && w.contains("at most 1048576"))
    );
    fs::write(folder.path().join("README.md"), [0xff, 0xfe]).unwrap();
    assert_eq!(open(folder.path()).unwrap().card, None);
}

// Folders.

#[test]
fn paths_that_are_no_checkpoint() {
    assert_says(open(Path::new("")), &["no folder was given"]);
    assert_says(
        open(Path::new("no/such/folder")),
        &["no/such/folder does not exist", "choose it again"],
    );
    let folder = tempfile::tempdir().unwrap();
    assert_says(
        open(folder.path()),
        &["has no config.json", &folder.path().display().to_string()],
    );
    fs::write(folder.path().join("notes.txt"), "hello").unwrap();
    assert_says(
        open(&folder.path().join("notes.txt")),
        &["notes.txt is no checkpoint", "config.json"],
    );
    Tiny::new().write(folder.path());
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_says(open(folder.path()), &["has no model.safetensors"]);
    fs::write(folder.path().join("pytorch_model.bin"), "PK").unwrap();
    assert_says(
        open(folder.path()),
        &["pytorch_model.bin: this is not a file that torch.save wrote"],
    );
    fs::remove_file(folder.path().join("pytorch_model.bin")).unwrap();
    fs::write(folder.path().join("pytorch_model.bin.index.json"), "{}").unwrap();
    assert_says(
        open(folder.path()),
        &["several torch files", "convert them to safetensors"],
    );
    fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    assert_says(
        open(folder.path()),
        &["model.safetensors is not a regular file"],
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    let weights = folder.path().join("model.safetensors");
    fs::remove_file(&weights).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&weights)
            .status()
            .unwrap()
            .success()
    );
    assert_says(
        open(folder.path()),
        &["model.safetensors is not a regular file"],
    );
    assert_says(open(&weights), &["model.safetensors is not a regular file"]);
}

/// `mambascope check` of a folder, as a user who may not read everything.
#[cfg(target_os = "linux")]
fn check_as_user(folder: &Path, is_superuser: bool) -> std::process::Output {
    use std::process::Command;
    if !is_superuser {
        return Command::new(program())
            .arg("check")
            .arg(folder)
            .output()
            .unwrap();
    }
    // Where the program was built, that user may not be able to go.
    let place = tempfile::tempdir().unwrap();
    open_to_all(place.path(), 0o755);
    let copy = place.path().join("mambascope");
    // By another process: a file this one has open for writing could not be run while another test's child inherits it.
    let copied = Command::new("cp").arg(program()).arg(&copy).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command
        .arg(&copy)
        .arg("check")
        .arg(folder)
        .output()
        .unwrap()
}

#[cfg(target_os = "linux")]
fn open_to_all(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn what_may_not_be_read_is_named() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    fs::create_dir(&folder).unwrap();
    Tiny::new().write(&folder);
    fs::write(folder.join("tokenizer.json"), tokenizer_json(&[])).unwrap();
    open_to_all(outer.path(), 0o755);
    open_to_all(&folder, 0o755);
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    files
        .iter()
        .for_each(|file| open_to_all(&folder.join(file), 0o644));

    let weights = folder.join("model.safetensors");
    open_to_all(&weights, 0o000);
    let is_superuser = fs::read(&weights).is_ok();
    open_to_all(&weights, 0o644);
    let output = check_as_user(&folder, is_superuser);
    assert!(output.status.success(), "{output:?}");

    let paths = files.map(|file| (folder.join(file), folder.join(file), 0o644));
    let whole = (folder.clone(), folder.join("config.json"), 0o755);
    for (locked, named, mode) in paths.into_iter().chain([whole]) {
        open_to_all(&locked, 0o000);
        let output = check_as_user(&folder, is_superuser);
        open_to_all(&locked, mode);
        let said = String::from_utf8(output.stderr).unwrap();
        let wanted = format!("{} may not be read: permission denied", named.display());
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&wanted) && output.stdout.is_empty(), "{said}");
    }
}

#[test]
fn text_files_are_bounded_and_must_be_text() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    fs::write(folder.path().join("config.json"), " ".repeat((4 << 20) + 1)).unwrap();
    assert_says(
        open(folder.path()),
        &["config.json has 4194305 bytes, wanted at most 4194304"],
    );
    fs::write(folder.path().join("config.json"), [b'{', 0xff, b'}']).unwrap();
    assert_says(open(folder.path()), &["config.json is not UTF-8 text"]);
}

#[test]
fn an_index_must_not_lead_out_of_its_folder() {
    let names = [
        "../model.safetensors",
        "/tmp/model.safetensors",
        "a/b.safetensors",
        "..",
        "",
        ".",
        "C:x.safetensors",
    ];
    for name in names.into_iter().chain([
        "a\\b.safetensors",
        "model.bin",
        "nul\0.safetensors",
        ".safetensors",
    ]) {
        let folder = tempfile::tempdir().unwrap();
        write_shards(folder.path(), |_| name.to_owned());
        assert_says(
            open(folder.path()),
            &[
                "model.safetensors.index.json",
                &format!("{name:?}"),
                "wanted the plain name",
            ],
        );
    }
}

#[test]
fn an_index_that_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    write_shards(folder.path(), |_| "model-00001-of-00002.safetensors".into());
    let absent = [
        "backbone.layers.0.mixer.A_log is not in model-00001-of-00002.safetensors",
        "and 1 more",
    ];
    assert_says(open(folder.path()), &absent);
    write_shards(folder.path(), |_| "model-00009-of-00002.safetensors".into());
    assert_says(
        open(folder.path()),
        &["model-00009-of-00002.safetensors does not exist"],
    );
    fs::write(&index, "{").unwrap();
    assert_says(
        open(folder.path()),
        &["model.safetensors.index.json: it is not valid JSON"],
    );
    fs::write(&index, "[]").unwrap();
    assert_says(open(folder.path()), &["`weight_map` is missing"]);
    fs::write(&index, r#"{"weight_map": {}}"#).unwrap();
    assert_says(open(folder.path()), &["`weight_map` is empty"]);
    fs::write(&index, r#"{"weight_map": {"x": 3}}"#).unwrap();
    assert_says(
        open(folder.path()),
        &["the file of \"x\" is 3, wanted a name"],
    );
}

#[test]
fn loading_stops_when_it_is_told_to() {
    let heard = RefCell::new(Vec::new());
    let stopped = load(&fixture("mamba1-tiny"), &|part| {
        heard.borrow_mut().push(part);
        if heard.borrow().len() == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let error = stopped.unwrap_err();
    assert!(matches!(error, LoadError::Cancelled { .. }), "{error}");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    let heard = heard.into_inner();
    assert_eq!(heard.len(), 3, "nothing was looked at afterwards");
    assert!(heard.is_sorted() && heard[2] < 1.0, "{heard:?}");
}
