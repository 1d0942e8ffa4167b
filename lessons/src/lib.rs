//! What Mambascope draws: the theme, the widgets, the pages, the lessons.
//!
//! - [`theme`] holds every colour and distance;
//! - [`widgets`] draw slices of numbers and texts, and know nothing of models;
//! - [`course`] is the list of lessons, each with its [`demo`]s and [`experiment`]s;
//! - [`practice`] asks what was learnt, and checks the answers by computing them;
//! - [`reading_guide`] is the page that explains the pictures.

pub mod course;
pub mod demo;
pub mod experiment;
pub mod glossary;
pub mod notebook;
pub mod page;
pub mod practice;
pub mod reading_guide;
pub mod theme;
pub mod widgets;
