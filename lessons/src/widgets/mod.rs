//! The pictures every page is made of: a heatmap, a ribbon of tokens, bars of probabilities.
//!
//! They draw slices and know no model. Each takes its data by reference every frame, keeps what
//! must outlive the frame (a zoom, a texture, text widths) in egui's memory under its own id, and
//! answers with what the user did.

pub mod amounts;
pub mod bars;
pub mod colormap;
pub mod controls;
pub mod formula;
pub mod heatmap;
pub mod line;
pub mod plots;
pub mod ribbon;
mod token_text;

pub use bars::{Bar, Bars};
pub use colormap::{Colormap, Scale, ScaleKind, number};
pub use heatmap::{Axis, Grid, Heatmap, HeatmapAction, HeatmapResponse, Pooling, Takeaway};
pub use ribbon::{Ribbon, RibbonResponse, RibbonToken};
pub use token_text::visible_token;
