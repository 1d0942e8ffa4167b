//! Makes `kernels/src/ptx/*.ptx` anew from `kernels/src/cuda/`: needs NVRTC, and no device.
//! NVRTC 12.0 is the one to use: a newer one writes PTX that drivers for CUDA 12.0 refuse.

use std::path::Path;

use mambascope_kernels::source::Source;

fn main() -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ptx");
    for source in Source::ALL {
        let path = folder.join(source.name()).with_extension("ptx");
        let ptx = source
            .make_ptx()
            .map_err(|error| format!("{}: {error}", source.name()))?;
        std::fs::write(&path, &ptx).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{} ({} bytes)", path.display(), ptx.len());
    }
    Ok(())
}
