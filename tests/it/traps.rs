//! Known mistakes, made on purpose outside of the engine: each is far from the references' numbers, the right way is at them.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{Backend, NaiveBackend, prefill_in_chunks};
use mambascope_core::model::{FeedForward, FeedForwardDims, Mixer, Mlp, Model};
use mambascope_core::scan::silu;
use mambascope_core::tensor::Tensor;
use mambascope_core::trace::{DEFAULT_BUDGET, Probe, Site, Trace, TracePlan, TraceTap};
use ndarray::{ArrayView2, Axis};

use crate::support::{Arrays, Tolerance, compare, fixture, load};

const LAYERS: Tolerance = Tolerance::OfLargest(1e-4);

/// The first text of a fixture: the model, everything the naive backend saw of it, and the references' numbers.
fn first_text(name: &str) -> (Arc<Model>, Trace, Arrays) {
    let (model, expected) = (
        load(name),
        Arrays::read(fixture(name).join("expected.safetensors")),
    );
    let ids: Vec<u32> = expected
        .get("input_ids")
        .index_axis(Axis(0), 0)
        .iter()
        .map(|&id| id as u32)
        .collect();
    let plan = TracePlan {
        layers: (0..model.config.n_layers()).collect(),
        probes: Probe::ALL.to_vec(),
        tokens: ids.len(),
        budget: DEFAULT_BUDGET,
    };
    let mut tap = TraceTap::new(&plan, &model.config).unwrap();
    let mut session = NaiveBackend::default().open(&model).unwrap();
    prefill_in_chunks(&mut *session, &ids, ids.len(), &mut tap, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    (model, tap.finish(), expected)
}

fn agrees(found: &[f32], expected: &Arrays, name: &str) -> bool {
    let found: Vec<f64> = found.iter().map(|&x| x.into()).collect();
    let wanted: Vec<f64> = expected
        .get(name)
        .index_axis(Axis(0), 0)
        .iter()
        .copied()
        .collect();
    compare(&found, &wanted, LAYERS).is_ok()
}

/// W x, in double precision.
fn product(weight: &Tensor, x: &[f32]) -> Vec<f32> {
    let rows = weight.as_f32().chunks(x.len());
    rows.map(|row| {
        row.iter()
            .zip(x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x))
            .sum::<f64>() as f32
    })
    .collect()
}

fn norm(x: &[f32], weight: &[f32], parts: usize, eps: f32) -> Vec<f32> {
    let width = x.len() / parts;
    let part = |(x, weight): (&[f32], &[f32])| -> Vec<f32> {
        let scale = (x.iter().map(|x| x * x).sum::<f32>() / width as f32 + eps)
            .sqrt()
            .recip();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    };
    x.chunks(width)
        .zip(weight.chunks(width))
        .flat_map(part)
        .collect()
}

fn matrix(trace: &Trace, site: Site) -> ArrayView2<'_, f32> {
    trace
        .get(site)
        .unwrap()
        .view()
        .into_dimensionality()
        .unwrap()
}

/// What the output and the gate of a token make together.
type Gated<'a> = &'a dyn Fn(&[f32], &[f32]) -> Vec<f32>;

#[test]
fn the_gate_comes_before_the_norm_and_the_norm_is_by_group() {
    let (model, trace, expected) = first_text("mamba2-groups");
    let Mixer::Mamba2(weights) = &model.layers[0].mixer else {
        panic!("not Mamba-2")
    };
    let (y, z) = (
        matrix(&trace, Site::layer(0, Probe::ScanOut)),
        matrix(&trace, Site::layer(0, Probe::Gate)),
    );
    let mixed = |gated: Gated<'_>| -> Vec<f32> {
        let tokens = y.outer_iter().zip(z.outer_iter());
        let tokens = tokens.map(|(y, z)| gated(&y.to_vec(), &z.to_vec()));
        tokens
            .flat_map(|v| product(&weights.out_proj, &v))
            .collect()
    };
    let gate =
        |y: &[f32], z: &[f32]| -> Vec<f32> { y.iter().zip(z).map(|(y, z)| y * silu(*z)).collect() };
    let (weight, eps) = (weights.norm.as_f32(), model.config.norm_eps);
    let name = "layers.0.mixer_output";
    assert!(agrees(
        &mixed(&|y, z| norm(&gate(y, z), weight, 2, eps)),
        &expected,
        name
    ));
    assert!(
        !agrees(
            &mixed(&|y, z| gate(&norm(y, weight, 2, eps), z)),
            &expected,
            name
        ),
        "the norm before the gate"
    );
    assert!(
        !agrees(
            &mixed(&|y, z| norm(&gate(y, z), weight, 1, eps)),
            &expected,
            name
        ),
        "one norm for all groups"
    );
}

fn swiglu(mlp: &Mlp, x: &[f32]) -> Vec<f32> {
    let (gate, up) = (product(&mlp.gate, x), product(&mlp.up, x));
    let inner: Vec<f32> = gate
        .iter()
        .zip(&up)
        .map(|(gate, up)| silu(*gate) * up)
        .collect();
    product(&mlp.down, &inner)
}

#[test]
fn the_weights_of_the_experts_are_not_renormalised() {
    let (model, trace, expected) = first_text("jamba-tiny");
    let Some(FeedForwardDims::Experts { top, .. }) = model.config.blocks[1].feed_forward else {
        panic!("no experts")
    };
    let part = model.layers[1].feed_forward.as_ref().unwrap();
    let FeedForward::Experts { experts, .. } = &part.network else {
        panic!("no experts")
    };
    let before = matrix(&trace, Site::layer(0, Probe::BlockOutput));
    let mixed = matrix(&trace, Site::layer(1, Probe::MixerOutput));
    let scores = matrix(&trace, Site::layer(1, Probe::RouterLogits));
    let block = |renormalised: bool| -> Vec<f32> {
        let mut out = Vec::new();
        for ((before, mixed), scores) in before
            .outer_iter()
            .zip(mixed.outer_iter())
            .zip(scores.outer_iter())
        {
            let x: Vec<f32> = before.iter().zip(&mixed).map(|(x, y)| x + y).collect();
            let inner = norm(&x, part.norm.as_f32(), 1, model.config.norm_eps);
            let total: f32 = scores.iter().map(|score| score.exp()).sum();
            let mut shares: Vec<(usize, f32)> = scores
                .iter()
                .map(|score| score.exp() / total)
                .enumerate()
                .collect();
            shares.sort_by(|a, b| b.1.total_cmp(&a.1));
            shares.truncate(top);
            let chosen: f32 = shares.iter().map(|share| share.1).sum();
            let mut y = x;
            for (expert, share) in shares {
                let share = if renormalised { share / chosen } else { share };
                let of_expert = swiglu(&experts[expert], &inner);
                y.iter_mut()
                    .zip(of_expert)
                    .for_each(|(y, out)| *y += share * out);
            }
            out.extend(y);
        }
        out
    };
    assert!(agrees(&block(false), &expected, "layers.1.block_output"));
    assert!(
        !agrees(&block(true), &expected, "layers.1.block_output"),
        "shares that sum to one"
    );
}
