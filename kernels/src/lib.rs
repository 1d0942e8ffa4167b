//! CUDA for Mambascope: the only crate that speaks to a device. So far it tells whether there is one.

pub mod device;
