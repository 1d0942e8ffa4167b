//! The original state-spaces format: a `config.json` with `ssm_cfg`, and a torch zip.

use std::fs;
use std::path::Path;

use mambascope_core::checkpoint::load;
use mambascope_core::model::{Family, Model};

use crate::support::fixture;

fn open(path: &Path) -> Model {
    load(path, &mambascope_core::checkpoint::unhurried).unwrap()
}

#[test]
fn the_original_format_is_the_same_model() {
    for (name, family) in [
        ("mamba1-tiny", Family::Mamba),
        ("mamba2-tiny", Family::Mamba2),
    ] {
        let (original, converted) = (
            open(&fixture(&format!("{name}-original"))),
            open(&fixture(name)),
        );
        assert_eq!(original.config.family, family);
        assert_eq!(original.config, converted.config, "{name}");
        assert!(
            original.head.is_none(),
            "two names on one storage are a tied head"
        );
        let values = |model: &Model| -> Vec<Vec<f32>> {
            model
                .tensors()
                .map(|tensor| tensor.as_f32().to_vec())
                .collect()
        };
        assert_eq!(values(&original), values(&converted), "{name}");
        assert_eq!(original.parameters(), converted.parameters());
        assert_eq!(
            original.warnings.len(),
            1,
            "no tokenizer: {:?}",
            original.warnings
        );
        for file in ["pytorch_model.bin", "config.json"] {
            let picked = open(&fixture(&format!("{name}-original")).join(file));
            assert_eq!(picked.config, original.config, "{file} was picked");
        }
    }
}

/// A pickle that would run a command where pickles are run.
#[test]
fn nothing_in_a_file_is_ever_run() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    let command = format!("touch {}", mark.display());
    // GLOBAL os.system, its argument, REDUCE, STOP.
    let mut pickle = b"\x80\x02cos\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    let mut file =
        zip::ZipWriter::new(fs::File::create(folder.path().join("pytorch_model.bin")).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    file.start_file("archive/data.pkl", stored).unwrap();
    std::io::Write::write_all(&mut file, &pickle).unwrap();
    file.finish().unwrap();
    fs::copy(
        fixture("mamba1-tiny-original").join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let error = load(folder.path(), &mambascope_core::checkpoint::unhurried)
        .unwrap_err()
        .to_string();
    assert!(error.contains("os.system"), "{error}");
    assert!(!mark.exists());
}
