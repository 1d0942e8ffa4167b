//! The mixers and networks on the device. The steps are numbered as in the naive backend.

pub(crate) mod attention;
pub(crate) mod feed_forward;
pub(crate) mod mamba;
pub(crate) mod mamba2;
