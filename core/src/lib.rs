//! State-space language models, run so that they can be watched.
//!
//! A [`Model`] is what a checkpoint holds. A [`Backend`] opens a [`Session`] on it: the session owns the recurrent
//! [`State`] and moves it forward token by token or chunk by chunk. What happens inside is seen through a [`Tap`],
//! and collected in a [`Trace`]. Everything a window or a command asks for is a [`Job`], run by the [`Engine`]'s one thread.
//!
//! # Glossary
//! One letter an axis, in names too: `delta_ld` is Δ, tokens × channels.
//!
//! | letter | axis | letter | axis |
//! |---|---|---|---|
//! | `l` | token (position in the text) | `r` | rank of the Δ projection |
//! | `e` | model width (the residual stream) | `k` | tap of the short convolution |
//! | `d` | inner channel, `d_inner` = `expand` · width | `v` | vocabulary entry |
//! | `n` | slot of the state | `h`, `p`, `g` | head, head width, group |
//! | `w` | channel of Mamba-2's convolution: x, B, C | `q`, `m` | query head, token it looks at |
//! | `x` | expert | | |
//!
//! | name | meaning |
//! |---|---|
//! | `u` | input of the scan: SiLU of the convolution's output, `[l, d]` |
//! | `delta` | Δ, step size after bias and softplus, `[l, d]` |
//! | `a` | A = −exp(`A_log`), `[d, n]`, always below zero; `[h]` in Mamba-2 |
//! | `b`, `c` | B (how to write) and C (how to read), `[l, n]`; `[l, g, n]` in Mamba-2 |
//! | `h` | hidden state, `[d, n]`; in Mamba-2 `[h, p, n]`, which is the same with d = h · p |
//! | `y` | output of the scan, `[l, d]` |
//! | `z` | gate, `[l, d]` |

pub mod backend;
pub mod checkpoint;
pub mod compare;
pub mod discretize;
pub mod engine;
pub mod export;
pub mod generate;
pub mod hippo;
pub mod job;
pub mod linalg;
pub mod model;
pub mod noise;
pub mod parity;
pub mod precision;
pub mod recall;
pub mod s4;
pub mod scan;
pub mod speed;
pub mod state;
pub mod study;
pub mod tensor;
pub mod tokenizer;
pub mod trace;
pub mod trace_file;
pub mod watch;
