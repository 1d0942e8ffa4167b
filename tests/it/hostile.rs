//! Checkpoints changed at random, tens of thousands of times: loading ends in a model or an error, never in a panic,
//! and never takes more memory than the file could need.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mambascope_core::backend::{Backend, FastBackend, NaiveBackend};
use mambascope_core::checkpoint::LoadError;
use mambascope_core::generate::{Sampler, Sampling};
use mambascope_core::model::Model;
use mambascope_core::tokenizer::Tokenizer;

use crate::checkpoint::write_shards;
use crate::memory::{alone, peak_of, process_peak_of, quietly};
use crate::tiny::{Tiny, fixture, load, tokenizer_json};

/// What one load may hold at any time; the files are smaller than 100 kB.
const MOST_BYTES: isize = 64 << 20;

/// Random numbers that are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 when `n` is.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Values a parser may trip over, in place of a number.
const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "15",
    "16",
    "17",
    "63",
    "64",
    "4095",
    "4096",
    "16777216",
    "-1",
    "0.5",
    "1e300",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999",
    "null",
    "\"8\"",
];

/// Pieces of JSON, in place of anything.
const PIECES: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "NaN",
    "-Infinity",
    "\"F16\"",
    "\"BF16\"",
    "\"I64\"",
    "\u{0}",
];

fn flip_bits(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
}

fn change_length(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(4) {
        0 => bytes.resize(bytes.len() + 1 + random.below(64), random.next() as u8),
        1 => bytes.truncate(random.below(16)),
        _ => bytes.truncate(random.below(bytes.len())),
    }
}

/// Copies a stretch over another place, inserts it there, or cuts it out.
fn splice(bytes: &mut Vec<u8>, random: &mut Random) {
    let start = random.below(bytes.len());
    let end = (start + 1 + random.below(200)).min(bytes.len());
    let at = random.below(bytes.len());
    let stretch = bytes[start..end].to_vec();
    match random.below(3) {
        0 => drop(bytes.splice(at..(at + stretch.len()).min(bytes.len()), stretch)),
        1 => drop(bytes.splice(at..at, stretch)),
        _ => drop(bytes.drain(start..end)),
    }
}

/// Replaces a number of a JSON text, or puts a piece of JSON somewhere in it.
fn edit_json(text: &str, random: &mut Random) -> String {
    let bytes = text.as_bytes();
    let starts_number = |&i: &usize| {
        bytes[i].is_ascii_digit() && !i.checked_sub(1).is_some_and(|j| bytes[j].is_ascii_digit())
    };
    let numbers: Vec<usize> = (0..bytes.len()).filter(starts_number).collect();
    if random.below(4) > 0 && !numbers.is_empty() {
        let start = numbers[random.below(numbers.len())];
        let digits = bytes[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        return [
            &text[..start],
            random.pick(&NUMBERS),
            &text[start + digits..],
        ]
        .concat();
    }
    let boundary = |i: usize| {
        (0..=i)
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0)
    };
    let start = boundary(random.below(text.len()));
    let end = boundary((start + random.below(6)).min(text.len())).max(start);
    [&text[..start], random.pick(&PIECES), &text[end..]].concat()
}

/// The header of a weight file and what is behind it.
fn halves(weights: &[u8]) -> (&str, &[u8]) {
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    (
        std::str::from_utf8(&weights[8..8 + length]).unwrap(),
        &weights[8 + length..],
    )
}

fn edit_header(weights: &[u8], random: &mut Random) -> Vec<u8> {
    let (header, data) = halves(weights);
    let mut header = header.to_owned();
    for _ in 0..=random.below(3) {
        header = edit_json(&header, random);
    }
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn lie_about_length(weights: &mut [u8], random: &mut Random) {
    let truth = u64::from_le_bytes(weights[..8].try_into().unwrap());
    let lies = [
        0,
        1,
        truth - 1,
        truth + 1,
        weights.len() as u64,
        100_000_000,
        100_000_001,
        1 << 40,
        u64::MAX,
        random.next(),
    ];
    weights[..8].copy_from_slice(&lies[random.below(lies.len())].to_le_bytes());
}

/// Loads with a watch on panics and memory.
fn load_watched(config: &str, weights: &[u8], tokenizer: Option<&str>) -> Option<Model> {
    let (result, peak) =
        peak_of(|| quietly(|| catch_unwind(AssertUnwindSafe(|| load(config, weights, tokenizer)))));
    assert!(peak < MOST_BYTES, "{peak} bytes for {config}");
    assert!(result.is_ok(), "a panic, for {config}");
    match result.unwrap() {
        Ok(model) => Some(model),
        Err(error) => {
            assert_readable(&error);
            None
        }
    }
}

fn assert_readable(error: &LoadError) {
    let message = error.to_string();
    assert!(message.len() > 20 && message.len() < 4000, "{message}");
}

/// Whatever loads must be whole: each tensor of the configuration, in its shape, with its elements.
fn assert_consistent(model: &Model) {
    let config = &model.config;
    let entry = config.family.entry();
    let specs = entry.tensors(config).into_iter();
    let tied = model.head.is_none();
    let mut wanted: Vec<_> = specs
        .filter(|spec| !tied || spec.name != entry.head_name())
        .map(|spec| spec.shape)
        .collect();
    let mut found: Vec<_> = model
        .tensors()
        .map(|tensor| tensor.shape().to_vec())
        .collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(model.layers.len(), config.n_layers());
    for tensor in model.tensors() {
        assert_eq!(tensor.shape().iter().product::<usize>(), tensor.len());
        assert_eq!(tensor.raw().len(), tensor.len() * tensor.dtype().size());
        assert_eq!(tensor.as_f32().len(), tensor.len());
    }
}

/// Whatever loads must run, with whatever numbers its weights have become.
fn assert_runs(model: Model) {
    if model.config.vocab_size < 2 {
        return;
    }
    let model = Arc::new(model);
    for mut backend in [
        Box::new(NaiveBackend::default()) as Box<dyn Backend>,
        Box::new(FastBackend::new(1).unwrap()),
    ] {
        let mut session = backend.open(&model).unwrap();
        session.prefill(&[0, 1, 0], &mut ()).unwrap();
        session.step(1, &mut ()).unwrap();
        let next = Sampler::default().pick(
            session.logits().unwrap(),
            &[0, 1, 0, 1],
            &Sampling::default(),
            0,
        );
        assert!((next as usize) < model.config.vocab_size);
    }
}

/// A checkpoint to start from.
struct Whole {
    config: String,
    weights: Vec<u8>,
    tokenizer: String,
}

impl Whole {
    fn tiny() -> Self {
        let tiny = Tiny::new();
        Self {
            config: tiny.config.to_string(),
            weights: tiny.weights(),
            tokenizer: tokenizer_json(&[]),
        }
    }

    fn fixture(name: &str) -> Self {
        let read = |file: &str| fs::read(fixture(name).join(file)).unwrap();
        let config = String::from_utf8(read("config.json")).unwrap();
        Self {
            config,
            weights: read("model.safetensors"),
            tokenizer: tokenizer_json(&[]),
        }
    }
}

/// Loads `whole` `times` times, changed by `change` each time, and gives how often it still loaded.
fn storm(
    whole: &Whole,
    seed: u64,
    times: usize,
    change: impl Fn(&mut Whole, &mut Random),
) -> usize {
    let mut random = Random(seed);
    let mut loaded = 0;
    for _ in 0..times {
        let Whole {
            config,
            weights,
            tokenizer,
        } = whole;
        let mut changed = Whole {
            config: config.clone(),
            weights: weights.clone(),
            tokenizer: tokenizer.clone(),
        };
        change(&mut changed, &mut random);
        if let Some(model) =
            load_watched(&changed.config, &changed.weights, Some(&changed.tokenizer))
        {
            assert_consistent(&model);
            assert_runs(model);
            loaded += 1;
        }
    }
    loaded
}

#[test]
fn the_starting_points_load() {
    for whole in [Whole::tiny(), Whole::fixture("mamba1-tiny")] {
        assert_eq!(storm(&whole, 0, 1, |_, _| {}), 1);
    }
}

#[test]
fn weights_with_flipped_bits() {
    let loaded = storm(&Whole::tiny(), 1, 5000, |whole, random| {
        flip_bits(&mut whole.weights, random)
    });
    assert!(
        loaded > 100,
        "bits of the data itself are no damage: {loaded}"
    );
    storm(&Whole::fixture("mamba1-tiny"), 2, 500, |whole, random| {
        flip_bits(&mut whole.weights[..2152], random)
    });
}

#[test]
fn headers_with_flipped_bits() {
    let header = halves(&Whole::tiny().weights).0.len();
    storm(&Whole::tiny(), 3, 5000, |whole, random| {
        flip_bits(&mut whole.weights[8..8 + header], random)
    });
}

#[test]
fn weights_cut_or_grown() {
    let loaded = storm(&Whole::tiny(), 4, 2000, |whole, random| {
        change_length(&mut whole.weights, random)
    });
    assert_eq!(loaded, 0);
}

#[test]
fn weights_with_stretches_moved() {
    storm(&Whole::tiny(), 5, 3000, |whole, random| {
        splice(&mut whole.weights, random)
    });
}

#[test]
fn headers_with_other_numbers() {
    storm(&Whole::tiny(), 6, 5000, |whole, random| {
        whole.weights = edit_header(&whole.weights, random)
    });
    storm(&Whole::fixture("mamba1-tiny"), 7, 500, |whole, random| {
        whole.weights = edit_header(&whole.weights, random)
    });
}

#[test]
fn headers_of_a_length_that_is_a_lie() {
    let loaded = storm(&Whole::tiny(), 8, 1000, |whole, random| {
        lie_about_length(&mut whole.weights, random)
    });
    assert_eq!(loaded, 0);
}

#[test]
fn configurations_with_other_numbers() {
    let edit = |whole: &mut Whole, random: &mut Random| {
        for _ in 0..=random.below(3) {
            whole.config = edit_json(&whole.config, random);
        }
    };
    let loaded = storm(&Whole::tiny(), 9, 5000, edit);
    assert!(loaded > 100, "some keys do not matter: {loaded}");
    storm(&Whole::fixture("mamba1-tiny"), 10, 500, edit);
}

#[test]
fn configuration_and_header_changed_alike() {
    // The same edit in both may agree on sizes that the data do not have.
    storm(&Whole::tiny(), 11, 2000, |whole, random| {
        let (from, to) = (
            random.pick(&["8", "16", "4", "3", "2", "1"]),
            random.pick(&NUMBERS),
        );
        whole.config = whole
            .config
            .replace(&format!(":{from},"), &format!(":{to},"));
        let (header, data) = halves(&whole.weights);
        let header = header
            .replace(&format!("[{from},"), &format!("[{to},"))
            .replace(&format!(",{from}]"), &format!(",{to}]"));
        whole.weights = [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            data,
        ]
        .concat();
    });
}

/// Every family has names, shapes and rules of its own to be wrong about.
#[test]
fn other_families_changed_anywhere() {
    for (seed, name) in [
        "mamba2-groups",
        "jamba-tiny",
        "llama-tiny",
        "falcon-mamba-tiny",
    ]
    .into_iter()
    .enumerate()
    {
        let whole = Whole::fixture(name);
        let seed = 100 + seed as u64;
        assert_eq!(storm(&whole, 0, 1, |_, _| {}), 1, "{name}");
        storm(&whole, seed, 600, |whole, random| {
            for _ in 0..=random.below(3) {
                whole.config = edit_json(&whole.config, random);
            }
        });
        storm(&whole, seed, 300, |whole, random| {
            whole.weights = edit_header(&whole.weights, random)
        });
        storm(&whole, seed, 100, |whole, random| {
            flip_bits(&mut whole.weights, random)
        });
    }
}

/// In Mamba-2 the state grows with heads, channels and slots, and the weights only with their sum.
#[test]
fn a_small_file_cannot_ask_for_a_huge_state() {
    let config = |size: usize| {
        format!(
            r#"{{"model_type": "mamba2", "hidden_size": 1, "expand": {size}, "num_heads": 1, "head_dim": {size}, "state_size": {size},
            "n_groups": 1, "num_hidden_layers": 1, "vocab_size": 2}}"#
        )
    };
    let error = mambascope_core::model::Config::from_json(&config(1 << 17))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("68725768192 bytes, wanted at most 1073741824"),
        "{error}"
    );
    assert!(mambascope_core::model::Config::from_json(&config(1 << 13)).is_ok());
}

#[test]
fn tokenizers_changed_anywhere() {
    let loaded = storm(&Whole::tiny(), 12, 3000, |whole, random| {
        for _ in 0..=random.below(3) {
            whole.tokenizer = edit_json(&whole.tokenizer, random);
        }
    });
    assert!(loaded > 10, "{loaded}");
}

#[test]
fn a_changed_tokenizer_never_panics_in_use() {
    let mut random = Random(13);
    let json = tokenizer_json(&[("ab", 8), ("abc", 9)])
        .replace("\"merges\":[]", "\"merges\":[[\"a\",\"b\"],[\"ab\",\"c\"]]");
    for _ in 0..2000 {
        let changed = edit_json(&json, &mut random);
        let (used, peak) = peak_of(|| {
            quietly(|| {
                catch_unwind(|| {
                    let Ok(tokenizer) = Tokenizer::from_json(&changed) else {
                        return;
                    };
                    if let Ok(ids) = tokenizer.encode("abc cab é") {
                        tokenizer.decode(&ids);
                        ids.into_iter().for_each(|id| drop(tokenizer.readable(id)));
                    }
                })
            })
        });
        assert!(used.is_ok() && peak < MOST_BYTES, "{peak} bytes: {changed}");
    }
}

/// Changes one file of a folder, each kind of file in its own ways.
fn change_file(name: &str, bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    if name.ends_with(".json") && random.below(4) > 0 {
        let text = std::str::from_utf8(bytes).unwrap();
        return edit_json(text, random).into();
    }
    match random.below(5) {
        0 if name.ends_with(".safetensors") => return edit_header(bytes, random),
        1 if name.ends_with(".safetensors") => lie_about_length(&mut changed, random),
        2 => change_length(&mut changed, random),
        3 => splice(&mut changed, random),
        _ => flip_bits(&mut changed, random),
    }
    changed
}

/// Loads the folder and runs what was loaded. Whether there was something to run.
fn load_and_run(folder: &std::path::Path) -> bool {
    match mambascope_core::checkpoint::load(folder, &mambascope_core::checkpoint::unhurried) {
        Ok(model) => {
            if let Some(Ok(ids)) = model.tokenizer.as_ref().map(|t| t.encode("a cat é")) {
                ids.iter()
                    .for_each(|&id| assert!((id as usize) < model.config.vocab_size));
            }
            assert_consistent(&model);
            assert_runs(model);
            true
        }
        Err(error) => {
            // The path is as long as the system makes it.
            assert_readable(&error);
            false
        }
    }
}

#[test]
fn folders_with_one_file_changed() {
    // Backends have threads, so the memory of all of them counts.
    alone("hostile::folders_with_one_file_changed", || {
        let folder = tempfile::tempdir().unwrap();
        write_shards(folder.path(), str::to_owned);
        fs::write(folder.path().join("tokenizer.json"), tokenizer_json(&[])).unwrap();
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(load_and_run(folder.path()));
        let mut random = Random(14);
        let mut loaded = 0;
        for _ in 0..3000 {
            let name = &names[random.below(names.len())];
            let path = folder.path().join(name);
            let whole = fs::read(&path).unwrap();
            let changed = change_file(name, &whole, &mut random);
            // A new file each time: what is mapped must not be written to.
            fs::remove_file(&path).unwrap();
            fs::write(&path, &changed).unwrap();
            let (ran, peak) =
                process_peak_of(|| catch_unwind(AssertUnwindSafe(|| load_and_run(folder.path()))));
            let shown = || String::from_utf8_lossy(&changed).into_owned();
            assert!(peak < MOST_BYTES, "{peak} bytes for {name}: {}", shown());
            assert!(ran.is_ok(), "a panic for {name}: {}", shown());
            loaded += usize::from(ran.unwrap());
            fs::remove_file(&path).unwrap();
            fs::write(&path, &whole).unwrap();
        }
        assert!((300..2700).contains(&loaded), "{loaded}");
    });
}
