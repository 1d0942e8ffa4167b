//! The CUDA sources, and how they become machine code: by NVRTC for the exact chip where a toolkit is installed, and
//! otherwise by the driver alone, from PTX that lies beside them.

use std::panic::catch_unwind;

use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts, sys};

/// The oldest chip the committed PTX runs on: Ampere, the first with bf16 tensor cores.
const OLDEST_CHIP: u32 = 80;

/// A file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The selective scan, v1 to v3.
    Scan,
    /// v4, where a channel's slots lie across lanes.
    ScanSlots,
    /// v5, all of it in one launch.
    ScanOnce,
    /// Matrix products.
    Matmul,
    /// The small stages.
    Layers,
    /// One token through a Mamba-1 block.
    Step,
    /// One token through all blocks of a Mamba-1 model.
    Token,
    /// Mamba-2's scan.
    Ssd,
    /// Softmax attention.
    Attention,
    /// The experts of a feed-forward part.
    Experts,
    /// Drawing a token.
    Sample,
}

/// Put before every file.
const COMMON: &str = include_str!("cuda/common.cuh");
/// And behind it before every file of the selective scan.
const SCAN: &str = include_str!("cuda/scan.cuh");

impl Source {
    /// All of them.
    pub const ALL: [Source; 11] = [
        Source::Scan,
        Source::ScanSlots,
        Source::ScanOnce,
        Source::Matmul,
        Source::Layers,
        Source::Step,
        Source::Token,
        Source::Ssd,
        Source::Attention,
        Source::Experts,
        Source::Sample,
    ];

    /// Its file's name without the ending.
    pub fn name(self) -> &'static str {
        match self {
            Source::Scan => "scan",
            Source::ScanSlots => "scan_slots",
            Source::ScanOnce => "scan_once",
            Source::Matmul => "matmul",
            Source::Layers => "layers",
            Source::Step => "step",
            Source::Token => "token",
            Source::Ssd => "ssd",
            Source::Attention => "attention",
            Source::Experts => "experts",
            Source::Sample => "sample",
        }
    }

    /// What a compiler is given.
    pub fn text(self) -> String {
        let own = match self {
            Source::Scan => include_str!("cuda/scan.cu"),
            Source::ScanSlots => include_str!("cuda/scan_slots.cu"),
            Source::ScanOnce => include_str!("cuda/scan_once.cu"),
            Source::Matmul => include_str!("cuda/matmul.cu"),
            Source::Layers => include_str!("cuda/layers.cu"),
            Source::Step => include_str!("cuda/step.cu"),
            Source::Token => include_str!("cuda/token.cu"),
            Source::Ssd => include_str!("cuda/ssd.cu"),
            Source::Attention => include_str!("cuda/attention.cu"),
            Source::Experts => include_str!("cuda/experts.cu"),
            Source::Sample => include_str!("cuda/sample.cu"),
        };
        let shared = match self.shares_with_the_scan() {
            true => format!("#line 1 \"scan.cuh\"\n{SCAN}\n"),
            false => String::new(),
        };
        format!("{COMMON}\n{shared}#line 1 \"{}.cu\"\n{own}", self.name())
    }

    /// Whether scan.cuh is put before it.
    fn shares_with_the_scan(self) -> bool {
        matches!(self, Source::Scan | Source::ScanSlots | Source::ScanOnce)
    }

    /// The PTX that was made of it, for compute_80 and newer.
    pub fn committed_ptx(self) -> &'static str {
        match self {
            Source::Scan => include_str!("ptx/scan.ptx"),
            Source::ScanSlots => include_str!("ptx/scan_slots.ptx"),
            Source::ScanOnce => include_str!("ptx/scan_once.ptx"),
            Source::Matmul => include_str!("ptx/matmul.ptx"),
            Source::Layers => include_str!("ptx/layers.ptx"),
            Source::Step => include_str!("ptx/step.ptx"),
            Source::Token => include_str!("ptx/token.ptx"),
            Source::Ssd => include_str!("ptx/ssd.ptx"),
            Source::Attention => include_str!("ptx/attention.ptx"),
            Source::Experts => include_str!("ptx/experts.ptx"),
            Source::Sample => include_str!("ptx/sample.ptx"),
        }
    }

    /// The first line of the PTX: what it was made of.
    pub fn ptx_header(self) -> String {
        let shared = match self.shares_with_the_scan() {
            true => ", scan.cuh",
            false => "",
        };
        format!(
            "// made from {}.cu{shared} and common.cuh, fnv1a {:016x}",
            self.name(),
            fnv1a(&self.text())
        )
    }

    /// Compiles it for the oldest chip, with the header that says what it was made of.
    ///
    /// # Errors
    /// What NVRTC said, or that there is none.
    pub fn make_ptx(self) -> Result<String, String> {
        let ptx = compile(&self.text(), OLDEST_CHIP)?;
        Ok(format!(
            "{}\n{}\n",
            self.ptx_header(),
            ptx.trim_end_matches('\0').trim_end()
        ))
    }
}

/// Compiles a source for a chip, such as 90, to PTX.
///
/// # Errors
/// What NVRTC said, or that there is none.
pub(crate) fn compile(text: &str, chip: u32) -> Result<String, String> {
    if !nvrtc_is_present() {
        return Err("no NVRTC on this machine (it comes with the CUDA toolkit)".to_owned());
    }
    let options = CompileOptions {
        options: vec![
            format!("--gpu-architecture=compute_{chip}"),
            "--std=c++17".to_owned(),
        ],
        ..CompileOptions::default()
    };
    // cudarc panics where a library lacks a function.
    let compiled = catch_unwind(|| {
        compile_ptx_with_opts(text, options)
            .map(|ptx| ptx.to_src())
            .map_err(|error| format!("{error:?}"))
    });
    compiled.unwrap_or_else(|_| Err("the NVRTC on this machine lacks a function".to_owned()))
}

#[expect(
    unsafe_code,
    reason = "loading a shared library runs its initialisers; NVRTC's are NVIDIA's own"
)]
pub(crate) fn nvrtc_is_present() -> bool {
    // SAFETY: only the compiler's library is opened, by the names its toolkit installs it under.
    unsafe { sys::is_culib_present() }
}

/// A hash that any language has in three lines, against a source that was changed and PTX that was not.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo run -p mambascope-kernels --example make_ptx` makes them anew.
    #[test]
    fn the_committed_ptx_is_of_the_sources() {
        for source in Source::ALL {
            let first = source.committed_ptx().lines().next().unwrap_or_default();
            assert_eq!(first, source.ptx_header(), "{}", source.name());
        }
    }

    #[test]
    fn the_committed_ptx_asks_for_no_newer_driver_or_chip() {
        for source in Source::ALL {
            let ptx = source.committed_ptx();
            assert!(ptx.contains("\n.version 8.0\n"), "{}", source.name());
            assert!(ptx.contains("\n.target sm_80\n"), "{}", source.name());
        }
    }

    #[test]
    fn a_changed_source_has_another_hash() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
