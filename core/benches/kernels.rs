//! The fast backend's parts on their own: scan, convolution, one token's products, Mamba-2's scan; at the shapes of the embedded model
//! and of mamba-130m. `cargo bench -p mambascope-core`.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mambascope_core::backend::{Backend, DEFAULT_CHUNK, FastBackend, prefill_in_chunks};
use mambascope_core::checkpoint::embedded;
use mambascope_core::model::Model;
use mambascope_core::noise::Noise;
use mambascope_core::scan::{Projection, ScanInput, SsdInput};
use mambascope_core::speed::spread_ids;
use mambascope_core::tensor::{Dtype, Tensor};
use mambascope_core::trace::{Probe, Tap, TracePlan, TraceTap};
use ndarray::{Array1, Array2, Array3};

/// Name, width and inner channels: the embedded model, and mamba-130m.
const SHAPES: [(&str, usize, usize); 2] = [("novel-mamba-3m", 256, 512), ("mamba-130m", 768, 1536)];
const TOKENS: usize = 512;
const SLOTS: usize = 16;

fn noise(name: &str, len: usize) -> Vec<f32> {
    let noise = Noise::new(1, name);
    (0..len).map(|i| noise.normal(i)).collect()
}

fn matrix(name: &str, rows: usize, columns: usize) -> Array2<f32> {
    let values = noise(name, rows * columns);
    Array2::from_shape_fn((rows, columns), |(i, j)| values[i * columns + j])
}

fn cube(name: &str, [a, b, c]: [usize; 3]) -> Array3<f32> {
    let values = noise(name, a * b * c);
    Array3::from_shape_fn((a, b, c), |(i, j, k)| values[(i * b + j) * c + k])
}

fn scan(criterion: &mut Criterion, backend: &mut FastBackend) {
    let mut group = criterion.benchmark_group("scan of 512 tokens");
    for (name, _, channels) in SHAPES {
        let (u, delta) = (
            matrix("u", TOKENS, channels),
            matrix("delta", TOKENS, channels),
        );
        let a = matrix("a", channels, SLOTS).mapv(|a| -a.abs());
        let [b, c] = ["b", "c"].map(|name| cube(name, [TOKENS, 1, SLOTS]));
        group.throughput(Throughput::Elements((TOKENS * channels * SLOTS) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let input = ScanInput {
                    u_ld: u.view(),
                    delta_ld: delta.view(),
                    a_dn: a.view(),
                    b: Projection::Selective(b.view()),
                    c: Projection::Selective(c.view()),
                    d_skip_d: None,
                    z_ld: None,
                    delta_bias_d: None,
                    delta_softplus: true,
                    initial_dn: None,
                };
                black_box(backend.scan(&input).map(|output| output.y_ld[[0, 0]]).ok())
            });
        });
    }
}

fn ssd(criterion: &mut Criterion, backend: &mut FastBackend) {
    const HEAD: usize = 64;
    let mut group = criterion.benchmark_group("Mamba-2's scan of 512 tokens, 128 slots");
    for (name, _, channels) in SHAPES {
        let heads = channels / HEAD;
        let x = cube("x", [TOKENS, heads, HEAD]);
        let delta = matrix("delta", TOKENS, heads);
        let a = Array1::from_elem(heads, -1.0);
        let [b, c] = ["b", "c"].map(|name| cube(name, [TOKENS, 1, 128]));
        group.throughput(Throughput::Elements((TOKENS * channels * 128) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let input = SsdInput {
                    x_lhp: x.view(),
                    dt_lh: delta.view(),
                    a_h: a.view(),
                    b_lgn: b.view(),
                    c_lgn: c.view(),
                    d_skip_h: None,
                    dt_bias_h: None,
                    dt_softplus: true,
                    dt_limit: (0.0, f32::INFINITY),
                    initial_hpn: None,
                };
                black_box(
                    backend
                        .ssd(&input, 64)
                        .map(|output| output.y_lhp[[0, 0, 0]])
                        .ok(),
                )
            });
        });
    }
}

fn convolution(criterion: &mut Criterion, backend: &FastBackend) {
    let mut group = criterion.benchmark_group("convolution and SiLU of 512 tokens");
    for (name, _, channels) in SHAPES {
        let x = matrix("x", TOKENS, channels);
        let weight = Tensor::from_f32(vec![channels, 1, 4], &noise("weight", 4 * channels));
        let Ok(weight) = weight else { continue };
        group.throughput(Throughput::Elements((TOKENS * channels) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(backend.convolution(&x, &weight)));
        });
    }
}

fn products(criterion: &mut Criterion, backend: &FastBackend) {
    for (what, tokens) in [("one token", 1), ("128 tokens", 128)] {
        let mut group = criterion.benchmark_group(format!("in_proj of {what}"));
        for (name, width, channels) in SHAPES {
            let x = matrix("x", tokens, width);
            let values = noise("weight", 2 * channels * width);
            for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8] {
                let weight = Tensor::from_f32(vec![2 * channels, width], &values);
                let Ok(weight) = weight.and_then(|weight| weight.recast(dtype)) else {
                    continue;
                };
                group.throughput(Throughput::Bytes(weight.byte_len() as u64));
                group.bench_function(BenchmarkId::new(name, dtype.name()), |bencher| {
                    bencher.iter(|| black_box(backend.product(&x, &weight)));
                });
            }
        }
    }
}

/// A prompt of 512 tokens on the embedded model, and the same with every value of a layer recorded, the scores aside.
fn prompt(criterion: &mut Criterion, backend: &mut FastBackend) {
    let Ok(model) = embedded().map(Arc::new) else {
        return;
    };
    let ids = spread_ids(model.config.vocab_size, TOKENS);
    let plan = |layers: Vec<usize>| TracePlan {
        layers,
        probes: Probe::ALL
            .into_iter()
            .filter(|probe| *probe != Probe::Logits)
            .collect(),
        tokens: TOKENS,
        budget: 1 << 30,
    };
    let mut group = criterion.benchmark_group("prompt of 512 tokens, novel-mamba-3m");
    group.throughput(Throughput::Elements(TOKENS as u64));
    group.bench_function("unwatched", |bencher| {
        bencher.iter(|| black_box(read(backend, &model, &ids, &mut ())));
    });
    group.bench_function("one layer recorded", |bencher| {
        bencher.iter(|| {
            let tap = TraceTap::new(&plan(vec![2]), &model.config).ok();
            tap.map(|mut tap| read(backend, &model, &ids, &mut tap))
        });
    });
}

fn read(backend: &mut FastBackend, model: &Arc<Model>, ids: &[u32], tap: &mut dyn Tap) -> bool {
    let go_on = &mut |_| ControlFlow::Continue(());
    let session = backend.open(model);
    session.is_ok_and(|mut session| {
        prefill_in_chunks(&mut *session, ids, DEFAULT_CHUNK, tap, go_on).is_ok()
    })
}

fn all(criterion: &mut Criterion) {
    let Ok(mut backend) = FastBackend::new(0) else {
        return;
    };
    scan(criterion, &mut backend);
    ssd(criterion, &mut backend);
    convolution(criterion, &backend);
    products(criterion, &backend);
    prompt(criterion, &mut backend);
}

criterion_group!(benches, all);
criterion_main!(benches);
