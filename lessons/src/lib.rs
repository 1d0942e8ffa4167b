//! What Mambascope draws: the theme, the widgets, the pages.
//!
//! - [`theme`] holds every colour and distance;
//! - [`widgets`] draw slices of numbers and texts, and know nothing of models;
//! - [`reading_guide`] is the page that explains the pictures.

pub mod reading_guide;
pub mod theme;
pub mod widgets;
