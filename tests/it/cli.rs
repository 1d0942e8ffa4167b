//! The program from the outside: its commands, their output, their exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use mambascope_kernels::device::unavailable_reason;

use crate::support::{Arrays, Tolerance, compare, fixture};

/// The program, built by this workspace beside the test binary.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // …/target/debug/deps/it-1234 → …/target/debug
        let target = std::env::current_exe()
            .unwrap()
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .to_owned();
        let release = target.ends_with("release");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(workspace).args([
            "build",
            "--quiet",
            "--package",
            "mambascope",
            "--bin",
            "mambascope",
            "--offline",
        ]);
        cargo.arg("--target-dir").arg(target.parent().unwrap());
        if release {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().unwrap().success(),
            "the program does not build"
        );
        target.join(format!("mambascope{}", std::env::consts::EXE_SUFFIX))
    })
}

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The text a run writes, without its last line of figures.
fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let whole = stdout(&output);
    let (text, figures) = whole.trim_end().rsplit_once("\n\n").unwrap();
    assert!(
        figures.contains("prefill") && figures.matches("tokens/s").count() == 2,
        "{figures}"
    );
    text.to_owned()
}

#[test]
fn run_continues_the_prompt_and_repeats_itself() {
    let prompt = [
        "run",
        "--prompt",
        "It was a cold and rainy evening",
        "--tokens",
        "24",
    ];
    let with = |more: &[&str]| text(&[&prompt[..], more].concat());
    let greedy = with(&["--greedy"]);
    assert!(
        greedy.starts_with("It was a cold and rainy evening") && greedy.len() > 50,
        "{greedy}"
    );
    assert_eq!(
        with(&["--greedy", "--backend", "naive"]),
        greedy,
        "both backends write the same"
    );
    assert_eq!(
        with(&["--temperature", "0"]).split_at(40).0,
        greedy.split_at(40).0
    );
    assert_eq!(with(&["--seed", "4"]), with(&["--seed", "4"]));
    assert_ne!(with(&["--seed", "4"]), with(&["--seed", "5"]));
}

#[test]
fn run_works_on_ids_without_a_tokenizer() {
    let folder = fixture("mamba1-odd");
    let text = text(&[
        "run",
        "--model",
        folder.to_str().unwrap(),
        "--prompt",
        "1, 2, 3",
        "--tokens",
        "4",
        "--greedy",
    ]);
    let written = text.strip_prefix("1, 2, 3").unwrap();
    assert_eq!(
        written
            .split_whitespace()
            .map(|id| id.parse::<u32>().unwrap())
            .filter(|&id| id < 67)
            .count(),
        4
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    use std::process::Stdio;
    let arguments = ["run", "--prompt", "It was", "--tokens", "400"];
    let mut child = Command::new(program())
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        stderr(&output)
    );
}

#[test]
fn without_a_display_it_names_the_commands() {
    let mut command = Command::new(program());
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"] {
        command.env_remove(name);
    }
    if cfg!(all(unix, not(target_os = "macos"))) {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        for name in ["run", "trace", "check", "bench"] {
            assert!(said.contains(name), "{said}");
        }
    }
}

#[cfg(all(unix, not(target_os = "macos")))]
#[test]
fn a_display_that_does_not_answer_is_one_clean_line() {
    let mut command = Command::new(program());
    command
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("WAYLAND_SOCKET");
    let output = command.env("DISPLAY", ":77").output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in ["could not be opened", "(DISPLAY=:77)", "check"] {
        assert!(said.contains(part), "{said}");
    }
    for part in [".rs", "registry", "os error at"] {
        assert!(!said.contains(part), "{said}");
    }
}

#[test]
fn the_rate_of_decoding_counts_the_steps_that_were_run() {
    let figures = |tokens: &str| {
        let output = run(&["run", "--prompt", "It was", "--greedy", "--tokens", tokens]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).lines().last().unwrap().to_owned()
    };
    for tokens in ["0", "1"] {
        let said = figures(tokens);
        let decode = format!("tokens/s, decode {tokens} tokens (fast backend)");
        assert!(said.ends_with(&decode), "{said}");
    }
    assert!(figures("2").contains("decode 2 tokens at "));
}

#[test]
fn the_prompt_is_there_before_it_is_read() {
    use std::io::Read;
    use std::process::Stdio;
    use std::time::Duration;
    // Reading so much takes the slow backend seconds.
    let prompt = "It was a cold and rainy evening. ".repeat(1000);
    let arguments = ["run", "--backend", "naive", "--tokens", "0", "--prompt"];
    let mut child = Command::new(program())
        .args(arguments)
        .arg(&prompt)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut shown = vec![0; prompt.len()];
    out.read_exact(&mut shown).unwrap();
    // Had it been read before it was shown, the figures would be next.
    std::thread::sleep(Duration::from_millis(200));
    child.kill().unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(shown == prompt.as_bytes() && rest.is_empty(), "{rest}");
    assert_eq!(stderr(&said), "", "progress is for terminals");
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_reading_shows_progress_and_wipes_it() {
    let prompt = "It was a cold and rainy evening. ".repeat(40);
    let command = format!(
        "'{}' run --tokens 2 --greedy --prompt '{prompt}'",
        program().display()
    );
    // `script` gives the program a terminal.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    let output = script.env("TERM", "xterm").output().unwrap();
    let said = stdout(&output);
    assert!(output.status.success(), "{said}");
    let (before, after) = said.split_once("\x1bD\x1b[A").unwrap();
    assert!(before.starts_with("It was a cold"), "{before}");
    assert!(after.matches("reading: ").count() > 2, "{after}");
    let total = after.split_once("reading: 0 of ").unwrap().1;
    let (total, _) = total.split_once(" tokens").unwrap();
    let last = format!("reading: {total} of {total} tokens\x1b8\x1b7\x1b[B\r\x1b[2K\x1b8");
    let (_, written) = after.split_once(&last).unwrap();
    assert!(
        written.contains(&format!("prefill {total} tokens at")),
        "{written}"
    );
    assert!(!written.contains('\x1b'), "{written}");
}

#[test]
fn check_prints_the_card_or_the_reason() {
    let output = run(&["check"]);
    assert!(output.status.success());
    for part in [
        "novel-mamba-3m",
        "3,152,640",
        "BF16",
        "240 KiB",
        "# novel-mamba-3m",
        "Licence",
    ] {
        assert!(stdout(&output).contains(part), "{part}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"model_type": "rwkv"}"#,
    )
    .unwrap();
    let path = folder.path().to_str().unwrap();
    for (arguments, reason) in [
        (["check", path], "not supported yet: rwkv"),
        (["check", "/no/such/folder"], "/no/such/folder"),
    ] {
        let output = run(&arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains(reason) && output.stdout.is_empty(), "{said}");
        assert_eq!(said.matches(arguments[1]).count(), 1, "{said}");
    }
}

#[test]
fn check_measures_a_backend_against_the_naive_one() {
    let path = fixture("mamba1-tiny");
    let folder = path.to_str().unwrap();
    for (arguments, tokens) in [
        (&["check", "--backend", "fast"][..], "(24 tokens)"),
        (&["check", folder, "--backend", "fast"], "(8 tokens)"),
        (
            &["check", folder, "--backend", "fast", "--prompt", "5"],
            "(1 token)",
        ),
    ] {
        let output = run(arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stdout(&output);
        let lines: Vec<&str> = said.lines().rev().take(4).collect();
        let badge = format!(" vs naive ✔ {tokens}");
        assert!(
            lines[3].starts_with("fast ") && lines[3].ends_with(&badge),
            "{said}"
        );
        for (line, name) in lines.iter().zip(["states", "ln p", "logits"]) {
            assert!(line.starts_with(name) && line.contains('≤'), "{said}");
        }
    }
    let output = run(&["check", "--backend", "naive"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing to compare"));
}

/// Ids of the first text of a fixture, as the command line wants them.
fn ids(expected: &Arrays) -> String {
    let row = expected
        .get("input_ids")
        .index_axis(ndarray::Axis(0), 0)
        .to_owned();
    row.iter()
        .map(|id| format!("{id}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn trace_writes_the_references_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.safetensors");
    // Ids, logits, written ids; six arrays a scan (Δ, B, C, two states, output), three a layer of attention (keys, values,
    // output), one more where there are experts.
    for (name, backend, arrays) in [
        ("mamba1-tiny", "fast", 3 + 2 * 6),
        ("mamba1-odd", "naive", 3 + 3 * 6),
        ("mamba2-tiny", "naive", 3 + 2 * 6),
        ("mamba2-groups", "fast", 3 + 2 * 6),
        ("falcon-mamba-tiny", "fast", 3 + 2 * 6),
        ("jamba-tiny", "fast", 3 + 3 * 6 + 3 + 2),
        ("jamba-tiny", "naive", 3 + 3 * 6 + 3 + 2),
        ("llama-tiny", "fast", 3 + 3 * 3),
        // Of this one there are logits and the text alone, written as a full forward writes it.
        ("mamba2-limits", "fast", 3),
    ] {
        let expected = Arrays::read(fixture(name).join("expected.safetensors"));
        let model_has_layers = expected
            .values
            .keys()
            .any(|name| name.starts_with("layers."));
        let model = fixture(name);
        let output = run(&[
            "trace",
            "--model",
            model.to_str().unwrap(),
            "--ids",
            &ids(&expected),
            "--tokens",
            "16",
            "--backend",
            backend,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let found = Arrays::read(out.clone());
        let mut compared = 0;
        let known = |name: &&String| model_has_layers || !name.starts_with("layers.");
        for (name, values) in found.values.iter().filter(|(name, _)| known(name)) {
            let wanted = expected
                .get(name)
                .index_axis(ndarray::Axis(0), 0)
                .to_owned();
            assert_eq!(values.shape(), wanted.shape(), "{name}");
            let tolerance = match name.as_str() {
                "logits" => Tolerance::Absolute(2e-4),
                "input_ids" | "gen_ids" => Tolerance::Absolute(0.0),
                _ => Tolerance::OfLargest(1e-4),
            };
            let (values, wanted): (Vec<f64>, Vec<f64>) = (
                values.iter().copied().collect(),
                wanted.iter().copied().collect(),
            );
            compare(&values, &wanted, tolerance).unwrap_or_else(|why| panic!("{name}: {why}"));
            compared += 1;
        }
        assert_eq!(compared, arrays, "{name}: {:?}", found.values.keys());
    }
}

#[test]
fn trace_refuses_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.safetensors");
    std::fs::write(&out, "what was there").unwrap();
    let path = out.to_str().unwrap();
    let elsewhere = folder.path().join("no/folder/t.safetensors");
    let mut refused = vec![
        (
            vec![
                "--prompt",
                "It was a cold evening",
                "--probes",
                "h",
                "--budget-mib",
                "0",
            ],
            "--budget-mib",
        ),
        (vec!["--prompt", "It was", "--layers", "0,9"], "no layer 9"),
        (vec!["--ids", "5,2048"], "outside the vocabulary"),
        (vec!["--prompt", ""], "empty"),
    ];
    let no_device = unavailable_reason();
    if let Some(reason) = &no_device {
        refused.push((vec!["--prompt", "It was", "--backend", "cuda"], reason));
    }
    for (arguments, reason) in refused {
        let output = run(&[&["trace", "--out", path][..], &arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            stderr(&output).contains(reason),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "what was there");
    }
    let output = run(&[
        "trace",
        "--prompt",
        "It was",
        "--out",
        elsewhere.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("could not write"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing temporary is left"
    );
}

#[test]
fn bench_prints_figures_a_program_can_read() {
    let output = run(&[
        "bench",
        "--prompt",
        "16",
        "--tokens",
        "4",
        "--repeats",
        "1",
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let figures: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    for backend in ["fast", "naive"] {
        let figures = &figures["backends"][backend];
        for figure in [
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
            "prefill_ms",
            "decode_us_per_token",
        ] {
            assert!(figures[figure].as_f64().unwrap() > 0.0);
        }
        assert!(figures["device_bytes"].is_null(), "there is no device");
    }
    assert_eq!(
        figures["chunk"], 128,
        "as much at once as everything else reads"
    );
    let table = stdout(&run(&[
        "bench",
        "--prompt",
        "16",
        "--tokens",
        "4",
        "--repeats",
        "1",
    ]));
    assert!(
        table.contains("peak memory") && table.contains("times naive"),
        "{table}"
    );
}

#[test]
fn bench_needs_no_checkpoint() {
    let output = run(&[
        "bench",
        "--synthetic",
        "mamba-130m",
        "--dtype",
        "bf16",
        "--backend",
        "fast",
        "--chunk",
        "4",
        "--prompt",
        "6",
        "--tokens",
        "1",
        "--repeats",
        "1",
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let figures: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(figures["model"], "mamba-130m of random weights");
    assert_eq!(figures["chunk"], 4);
    // Two bytes of each matrix, as it is stored and read.
    let bytes = figures["weight_bytes"].as_u64().unwrap();
    assert!((259_000_000..262_000_000).contains(&bytes), "{bytes}");
}

#[test]
fn bench_says_what_a_number_format_costs() {
    let figures = |dtype: &str| -> serde_json::Value {
        let sizes = [
            "--prompt",
            "40",
            "--tokens",
            "2",
            "--repeats",
            "1",
            "--json",
        ];
        let format = ["bench", "--backend", "fast", "--dtype", dtype];
        let output = run(&[&format[..], &sizes].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let [stored, int8] = ["bf16", "int8"].map(figures);
    assert_eq!(stored["kl_nats"], 0.0);
    let kl = int8["kl_nats"].as_f64().unwrap();
    assert!((1e-7..0.05).contains(&kl), "{kl}");
    let bytes = |figures: &serde_json::Value| figures["weight_bytes"].as_f64().unwrap();
    assert!(bytes(&int8) < 0.6 * bytes(&stored));
    for figures in [stored, int8] {
        for name in [
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
            "bandwidth_bytes_per_s",
            "gemm_flops_per_s",
            "prefill_share_of_gemm",
            "decode_share_of_bandwidth",
        ] {
            let figure = figures[name].as_f64().unwrap();
            assert!(figure > 0.0 && figure.is_finite(), "{name}: {figure}");
        }
    }
}

const SMALL_SCAN: [&str; 12] = [
    "bench",
    "scan",
    "--batch",
    "2",
    "--channels",
    "24",
    "--tokens",
    "10",
    "--groups",
    "2",
    "--repeats",
    "2",
];

#[test]
fn bench_scan_prints_times_and_floors() {
    for dtype in ["f32", "bf16"] {
        let more = ["--kernel", "fast,naive", "--dtype", dtype, "--json"];
        let output = run(&[&SMALL_SCAN[..], &more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let said: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        let sizes = [
            ("batch", 2),
            ("channels", 24),
            ("tokens", 10),
            ("slots", 16),
        ];
        for (size, wanted) in sizes {
            assert_eq!(said[size], wanted);
        }
        // exp(Δ·A), and four functions a channel.
        assert_eq!(said["exponentials"], 480 * 16 + 480 * 4);
        for kernel in ["fast", "naive"] {
            let figures = &said["kernels"][kernel];
            let figure = |name: &str| figures[name].as_f64().unwrap();
            // The processor's kernels have no halves.
            assert_eq!(figures["dtype"], "f32");
            assert_eq!(figures["runs"], 2);
            let wanted = 4 * (4 * 480 + 2 * 20 * 2 * 16 + 24 * 16 + 2 * 24 + 2 * 24 * 16);
            assert_eq!(figures["bytes"], wanted);
            let floor = 1e6 * wanted as f64 / figure("bandwidth_bytes_per_s");
            assert!((figure("floor_us") / floor - 1.0).abs() < 1e-9);
            assert!((figure("share_of_floor") * figure("us") / floor - 1.0).abs() < 1e-9);
        }
    }
    let table = stdout(&run(&SMALL_SCAN));
    for part in ["fast", "naive", "share of floor", "v3", "v4", "v5"] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

#[test]
fn bench_scan_says_what_it_cannot_do() {
    for (sizes, parts) in [
        (
            ["--channels", "9", "--groups", "2"],
            ["--groups is 2", "9 channels"],
        ),
        (
            ["--channels", "4000000000", "--tokens", "4000000000"],
            ["bytes of operands", "--tokens"],
        ),
    ] {
        let output = run(&[&["bench", "scan"][..], &sizes].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
    for kernel in ["v1", "v2", "v3", "v4", "v5"] {
        let output = run(&[&SMALL_SCAN[..], &["--kernel", kernel]].concat());
        let (code, said) = (output.status.code(), stderr(&output));
        match unavailable_reason() {
            Some(reason) => {
                assert_eq!(code, Some(1), "{said}");
                assert!(said.contains(kernel) && said.contains(&reason), "{said}");
            }
            None if kernel == "v5" && code == Some(1) => {
                // Not every device has the shared memory.
                assert!(said.contains("KiB of shared memory"), "{said}");
            }
            None => assert!(
                code == Some(0) && stdout(&output).contains(kernel),
                "{said}"
            ),
        }
    }
}

#[test]
fn wrong_usage_is_answered_with_help() {
    for arguments in [
        &["run"][..],
        &["run", "--prompt", "x", "--top-p", "7"],
        &["trace", "--out", "x"],
        &["sing"],
        &["run", "--prompt", "x", "--backend", "abacus"],
        &["run", "--prompt", "x", "--greedy", "--top-k", "3"],
        &["--model", "x", "check"],
        &["check", "--prompt", "without a backend"],
        &["bench", "--synthetic", "mamba-130m", "--model", "x"],
        &["bench", "--synthetic", "mamba-900b"],
        &["bench", "--dtype", "int4"],
        &["run", "--prompt", "x", "--dtype", "int4"],
        &["run", "--prompt", "x", "--keep"],
        &["bench", "--keep"],
        &[
            "bench",
            "--synthetic",
            "mamba-130m",
            "--dtype",
            "int8",
            "--keep",
        ],
        &["bench", "--synthetic", "mamba-130m", "--dtype", "f64"],
        &["bench", "--chunk", "0"],
        &["bench", "--tokens", "3", "scan"],
        &["bench", "scan", "--kernel", "v9"],
        &["bench", "scan", "--dtype", "f16"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn a_model_that_is_neither_a_folder_nor_a_name_is_told_the_names() {
    for command in [
        &["check", "nosuch"][..],
        &["run", "--model", "nosuch", "--prompt", "It"],
    ] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        for wanted in ["nosuch", "novel-mamba-3m", "novel-transformer-4m"] {
            assert!(said.contains(wanted), "{said}");
        }
    }
}

#[test]
fn prove_runs_experiments_and_says_what_they_measure() {
    let proven = run(&["prove", "half-life"]);
    assert!(proven.status.success(), "{}", stderr(&proven));
    let text = stdout(&proven);
    assert!(text.contains("measured 17.329 tokens"), "{text}");
    assert!(text.contains("findings hold"), "{text}");
    let unknown = run(&["prove", "perpetual-motion"]);
    assert!(!unknown.status.success());
    assert!(stderr(&unknown).contains("prove --list"));
    let list = stdout(&run(&["prove", "--list"]));
    for experiment in mambascope_lessons::course::experiments() {
        assert!(list.contains(experiment.name), "{}", experiment.name);
    }
}
