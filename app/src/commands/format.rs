//! The number format in which a command wants a model's matrices.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mambascope_core::checkpoint;
use mambascope_core::job::JobError;
use mambascope_core::model::Model;
use mambascope_core::tensor::Dtype;

use super::{Failure, load};

#[derive(Args)]
pub(super) struct Format {
    /// Number format of the matrices; without, the one they are stored in.
    #[arg(long, value_parser = PossibleValuesParser::new(["f32", "bf16", "f16", "int8"]).map(dtype_named))]
    pub(super) dtype: Option<Dtype>,
    /// With --dtype int8: keep that form in a file beside the checkpoint, which is read from then on in place of making it.
    #[arg(long, requires = "dtype")]
    keep: bool,
}

/// A number format by its name on the command line, which the parser has checked.
pub(super) fn dtype_named(name: String) -> Dtype {
    match name.as_str() {
        "bf16" => Dtype::Bf16,
        "f16" => Dtype::F16,
        "int8" => Dtype::Int8,
        _ => Dtype::F32,
    }
}

impl Format {
    /// The model in a folder, or an embedded one, in this format.
    pub(super) fn load(&self, folder: Option<&Path>) -> Result<Arc<Model>, Failure> {
        let model = load(folder)?;
        let Some(dtype) = self.dtype else {
            return Ok(model);
        };
        let go_on = &mut |_: &'static str, _, _| ControlFlow::Continue(());
        let recast = checkpoint::recast(&model, dtype, self.keep, go_on).map_err(JobError::from)?;
        // Nobody stops it here.
        Ok(recast.map_or(model, Arc::new))
    }
}
