//! The review log: nothing is lost but the last answer, whatever happens.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mambascope_core::noise::Noise;
use mambascope_lessons::practice::log::{Notice, Opened, Review, ReviewLog};
use mambascope_lessons::practice::schedule::Rating;
use tempfile::tempdir;

/// Tells the test program that it is the child that is to be killed.
const FOLDER: &str = "MAMBASCOPE_TEST_LOG";

fn review(at: i64) -> Review {
    Review {
        item: "what-is-a-scan".into(),
        at,
        revision: 0,
        rating: Rating::Good,
        suggested: Rating::Hard,
        correct: true,
        confidence: Some(0.7),
        seconds: 31.5,
        seed: Some(at as u64),
        answer: Some("h = exp(Δ·A)·h + Δ·B·x, \"quoted\"\nand a second line 🐍".into()),
    }
}

fn open(folder: &Path) -> Opened {
    ReviewLog::open(folder).unwrap()
}

/// A log with so many answers.
fn filled(folder: &Path, count: i64) -> ReviewLog {
    let log = open(folder).log;
    (0..count).for_each(|at| log.append(&review(at)).unwrap());
    log
}

fn times(opened: &Opened) -> Vec<i64> {
    opened.reviews.iter().map(|review| review.at).collect()
}

#[test]
fn answers_come_back_as_they_were() {
    let folder = tempdir().unwrap();
    let folder = folder.path().join("made/for/it");
    assert!(open(&folder).reviews.is_empty());
    filled(&folder, 3);
    let opened = open(&folder);
    assert_eq!(opened.reviews, [review(0), review(1), review(2)]);
    assert!(opened.notices.is_empty());
    let text = std::fs::read_to_string(opened.log.path()).unwrap();
    assert!(
        text.lines()
            .all(|line| line.starts_with("{\"schema\":1,\"item\""))
    );
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn a_line_torn_anywhere_loses_only_itself() {
    let folder = tempdir().unwrap();
    let log = filled(folder.path(), 2);
    let whole = std::fs::read(log.path()).unwrap();
    let start = whole.len() / 2;
    for cut in start + 1..whole.len() {
        std::fs::write(log.path(), &whole[..cut]).unwrap();
        let opened = open(folder.path());
        // Only the line's end is missing: the answer is there.
        let complete = cut == whole.len() - 1;
        let kept: &[i64] = if complete { &[0, 1] } else { &[0] };
        assert_eq!(times(&opened), kept, "cut at {cut}");
        let torn = matches!(opened.notices[..], [Notice::Torn { line: 2, .. }]);
        assert_eq!(torn, !complete, "cut at {cut}: {:?}", opened.notices);
        opened.log.append(&review(7)).unwrap();
        let again = open(folder.path());
        assert_eq!(times(&again), [kept, &[7]].concat(), "cut at {cut}");
        assert!(
            again.notices.is_empty(),
            "cut at {cut}: {:?}",
            again.notices
        );
        let bytes = std::fs::read(log.path()).unwrap();
        assert!(bytes.starts_with(&whole[..cut]), "history was changed");
    }
}

#[test]
fn a_newer_form_is_kept_and_said_so() {
    let folder = tempdir().unwrap();
    let log = filled(folder.path(), 1);
    let mut text = std::fs::read_to_string(log.path()).unwrap();
    text.push_str("{\"schema\":9,\"what\":\"is to come\"}\n");
    std::fs::write(log.path(), &text).unwrap();
    let opened = open(folder.path());
    assert!(matches!(
        opened.notices[..],
        [Notice::Newer {
            lines: 1,
            schema: 9,
            ..
        }]
    ));
    opened.log.append(&review(5)).unwrap();
    assert_eq!(times(&open(folder.path())), [0, 5]);
    let after = std::fs::read_to_string(log.path()).unwrap();
    assert!(after.starts_with(&text));
}

#[test]
fn a_corrupted_file_is_set_aside_and_what_can_be_read_goes_on() {
    for damage in [
        &b"\0\0\0\0"[..],
        b"{\"schema\":1,\"item\":3}",
        b"\xff\xfe",
        b"[1, 2]",
    ] {
        let folder = tempdir().unwrap();
        let log = filled(folder.path(), 2);
        let newer = b"\n{\"schema\":2}\n";
        let bytes = std::fs::read(log.path()).unwrap();
        let damaged = [&bytes[..], damage, newer].concat();
        std::fs::write(log.path(), &damaged).unwrap();
        let opened = open(folder.path());
        assert_eq!(times(&opened), [0, 1]);
        let aside = folder.path().join("reviews-unreadable-0.jsonl");
        let said: Vec<String> = opened.notices.iter().map(ToString::to_string).collect();
        assert!(
            said.iter()
                .any(|text| text.contains("reviews-unreadable-0")),
            "{said:?}"
        );
        assert_eq!(std::fs::read(aside).unwrap(), damaged);
        opened.log.append(&review(9)).unwrap();
        let again = open(folder.path());
        assert_eq!(times(&again), [0, 1, 9]);
        assert!(matches!(again.notices[..], [Notice::Newer { .. }]));
    }
}

#[test]
fn a_log_goes_out_and_comes_back_without_doubles() {
    let [here, there] = [tempdir().unwrap(), tempdir().unwrap()];
    let out = there.path().join("out.jsonl");
    let log = filled(here.path(), 3);
    log.append(&review(1).corrected(Rating::Again)).unwrap();
    log.export(&out).unwrap();
    let mut text = std::fs::read_to_string(&out).unwrap();
    text.push_str("{\"schema\":3,\"new\":true}\n{\"schema\":1,\"item\":\"tor");
    std::fs::write(&out, text).unwrap();
    let other = filled(&there.path().join("data"), 2);
    other.append(&review(50)).unwrap();
    let imported = other.import(&out).unwrap();
    assert_eq!(
        imported.added,
        [review(2), review(1).corrected(Rating::Again)]
    );
    assert_eq!(
        (imported.known, imported.newer, imported.unreadable),
        (2, 1, 1)
    );
    let again = other.import(&out).unwrap();
    assert!(again.added.is_empty() && again.newer == 0);
    assert_eq!(times(&open(&there.path().join("data"))), [0, 1, 50, 2, 1]);
    assert!(log.import(&there.path().join("none")).is_err());
}

/// Not a test of its own: what the next one starts and kills.
#[test]
fn appends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let opened = open(Path::new(&folder));
    let first = opened.reviews.len() as i64;
    for at in first.. {
        opened.log.append(&review(at)).unwrap();
        println!("\nkept {at}");
    }
}

#[test]
fn killed_two_hundred_times_it_loses_nothing_but_the_last_answer() {
    let folder = tempdir().unwrap();
    let noise = Noise::new(1, "kills");
    let program = std::env::current_exe().unwrap();
    for round in 0..200 {
        let mut child = Command::new(&program)
            .args(["log::appends_until_it_is_killed", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut kept =
            lines.filter_map(|line| line.ok()?.strip_prefix("kept ")?.parse::<i64>().ok());
        let mut last = kept.next().unwrap();
        std::thread::sleep(Duration::from_micros(noise.bits(round) % 2_000));
        child.kill().unwrap();
        child.wait().unwrap();
        last = kept.last().unwrap_or(last);
        let opened = open(folder.path());
        let times = times(&opened);
        assert!(
            times.iter().copied().eq(0..times.len() as i64),
            "round {round}"
        );
        // What was told to be kept is; and at most one more, that there was no time to tell of.
        let count = times.len() as i64;
        assert!(
            (last + 1..=last + 2).contains(&count),
            "round {round}: {last} {count}"
        );
    }
}
