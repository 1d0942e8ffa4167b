//! What the page about the scan as a matrix claims.

use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;
use mambascope_core::scan::{
    SsdInput, SsdMacs, SsdOutput, ssd_blocks, ssd_matrix, ssd_quadratic, ssd_sequential,
};
use ndarray::{Array1, Array2, Array3, s};

use super::mixing::{Mixing, projection, spectrum};
use crate::course::shared::refused;
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// The recurrence, the matrix and the blocks.
pub const TWO_WAYS: Experiment = Experiment {
    name: "two-ways",
    title: "The recurrence, one matrix and the four steps give the same y",
    run: two_ways,
};

/// Ranks of blocks below the diagonal.
pub const RANK_OF_THE_PAST: Experiment = Experiment {
    name: "rank-of-the-past",
    title: "A block below the diagonal has the rank of the state; exp lifts it to the full one",
    run: rank_of_the_past,
};

/// What a chunk costs.
pub const BLOCK_SIZE: Experiment = Experiment {
    name: "block-size",
    title: "Where the work inside the chunks is as much as that through the state",
    run: block_size,
};

const TOKENS: usize = 64;
const SLOTS: usize = 8;

/// Operands of a scan with two heads that share B and C.
struct Operands {
    x_lhp: Array3<f64>,
    dt_lh: Array2<f64>,
    a_h: Array1<f64>,
    b_lgn: Array3<f64>,
    c_lgn: Array3<f64>,
}

impl Operands {
    fn random() -> Self {
        let noise = Noise::new(9, "ssd");
        let (heads, head_dim) = (2, 4);
        let group = |name| projection(name, TOKENS, SLOTS).insert_axis(ndarray::Axis(1));
        Self {
            x_lhp: Array3::from_shape_fn((TOKENS, heads, head_dim), |(l, h, p)| {
                f64::from(noise.normal((l * heads + h) * head_dim + p))
            }),
            // Steps about 0.01 to 0.3 with A = −1 and −4: some of the past is left, some is not.
            dt_lh: Array2::from_shape_fn((TOKENS, heads), |(l, h)| {
                0.01 * 30f64.powf(f64::from(noise.uniform(1000 + l * heads + h)))
            }),
            a_h: Array1::from(vec![-1.0, -4.0]),
            b_lgn: group("B"),
            c_lgn: group("C"),
        }
    }

    fn input(&self) -> SsdInput<'_, f64> {
        SsdInput {
            x_lhp: self.x_lhp.view(),
            dt_lh: self.dt_lh.view(),
            dt_bias_h: None,
            dt_softplus: false,
            dt_limit: (0.0, f64::INFINITY),
            a_h: self.a_h.view(),
            b_lgn: self.b_lgn.view(),
            c_lgn: self.c_lgn.view(),
            d_skip_h: None,
            initial_hpn: None,
        }
    }
}

fn two_ways(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let operands = Operands::random();
    let input = operands.input();
    let wanted = ssd_sequential(&input, |_, _| {}).map_err(refused)?;
    let off = |found: &SsdOutput<f64>| {
        let pairs = found.y_lhp.iter().zip(&wanted.y_lhp);
        pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
    };
    let size = wanted
        .y_lhp
        .iter()
        .fold(0.0f64, |most, y| most.max(y.abs()));
    let matrix = ssd_quadratic(&input).map_err(refused)?;
    let blocks = ssd_blocks(&input, 16).map_err(refused)?;
    let uneven = ssd_blocks(&input, 7).map_err(refused)?;
    // Sums of some hundred products, y a few units in size: some tens of roundings of 2e-16.
    let close = |name, what: &str, far: f64| Finding::new(name, what, Expected::AtMost(1e-14), far);
    Ok(vec![
        Finding::new(
            "size",
            "largest y, which the differences are to be seen against",
            Expected::AtLeast(0.5),
            size,
        ),
        close(
            "matrix",
            "y = M X against the recurrence, 64 tokens, 8 slots: largest difference, f64",
            off(&matrix),
        ),
        close(
            "blocks",
            "the four steps with chunks of 16 tokens: largest difference",
            off(&blocks),
        ),
        close(
            "uneven",
            "with chunks of 7, the last of them short",
            off(&uneven),
        ),
    ])
}

fn rank_of_the_past(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const HALF: usize = TOKENS / 2;
    let operands = Operands::random();
    let m_ll = ssd_matrix(&operands.input(), 0).map_err(refused)?;
    let corner = s![HALF.., ..HALF];
    let (_, rank) = spectrum(m_ll.slice(corner))?;
    // All blocks that reach from the lower left corner up to the diagonal.
    let mut most = 0;
    for row in 1..TOKENS {
        most = most.max(spectrum(m_ll.slice(s![row.., ..row]))?.1);
    }
    let raised = m_ll.slice(corner).mapv(f64::exp);
    let (singular, lifted) = spectrum(raised.view())?;
    let smallest = singular.last().copied().unwrap_or(0.0) / singular[0];
    let (b_ln, c_ln) = (
        projection("B", TOKENS, SLOTS),
        projection("C", TOKENS, SLOTS),
    );
    let decay_l = operands.dt_lh.column(0).mapv(|delta| (-delta).exp());
    let diagonal = Mixing::diagonal(&decay_l, &b_ln, &c_ln);
    let softmax = Mixing::softmax(&b_ln, &c_ln);
    let count = |name, what: &str, wanted: usize, found: usize| {
        Finding::new(name, what, Expected::exactly(wanted as f64), found as f64)
    };
    Ok(vec![
        count(
            "ssd",
            "rank of the lower left 32 × 32 block, 8 slots",
            SLOTS,
            rank,
        ),
        Finding::new(
            "most",
            "largest rank of the 63 blocks that touch the diagonal from below",
            Expected::AtMost(SLOTS as f64),
            most as f64,
        ),
        count(
            "raised",
            "rank of the same block after exp of each value",
            HALF,
            lifted,
        ),
        Finding::new(
            "smallest",
            "its smallest singular value, as a share of the largest: far above rounding, 7e-15",
            Expected::AtLeast(1e-12),
            smallest,
        ),
        count(
            "softmax",
            "rank of that block of softmax attention's matrix, from the same B and C",
            HALF,
            spectrum(softmax.m_ll.slice(corner))?.1,
        ),
        count(
            "diagonal",
            "rank with a decay for every slot, as in Mamba-1",
            SLOTS,
            spectrum(diagonal.m_ll.slice(corner))?.1,
        ),
        count("masks", "masks it takes then", SLOTS, diagonal.masks.len()),
    ])
}

fn block_size(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const N: usize = 128;
    const P: usize = 64;
    // Counted pair by pair: C·B over the slots, and its product with X over the channels.
    let counted = |chunk: usize, is_causal: bool| {
        let mut macs = 0usize;
        for i in 0..chunk {
            for _ in 0..if is_causal { i + 1 } else { chunk } {
                macs += N + P;
            }
        }
        macs as f64 / chunk as f64
    };
    let states = SsdMacs::of(64, N, P).states;
    // The largest chunk whose inside costs no more than the state.
    let balance = |is_causal| {
        let within = |&chunk: &usize| counted(chunk, is_causal) <= states;
        (1..=512).take_while(within).last().unwrap_or(0) as f64
    };
    let total = |chunk: &usize| SsdMacs::of(*chunk, N, P).total();
    let least = (1..=512).min_by(|one, other| total(one).total_cmp(&total(other)));
    let macs = |name, what: &str, wanted: f64, found: f64| {
        Finding::new(name, what, Expected::exactly(wanted), found)
            .in_unit("multiplications a token and head")
    };
    let inside = "inside a chunk, N = 128, P = 64, chunk of";
    Ok(vec![
        macs(
            "inside-64",
            &format!("{inside} 64"),
            12_288.0,
            counted(64, false),
        ),
        macs(
            "inside-256",
            &format!("{inside} 256"),
            49_152.0,
            counted(256, false),
        ),
        macs("states", "chunk states and reading them", 16_384.0, states),
        Finding::new(
            "model",
            "the engine's formula less the count, chunk of 256",
            Expected::exactly(0.0),
            SsdMacs::of(256, N, P).inside - counted(256, false),
        ),
        Finding::new(
            "balance",
            "largest chunk whose inside costs no more than its state, the whole square computed",
            Expected::exactly(85.0),
            balance(false),
        )
        .in_unit("tokens"),
        Finding::new(
            "balance-causal",
            "the same, only what lies on and below the diagonal computed",
            Expected::exactly(169.0),
            balance(true),
        )
        .in_unit("tokens"),
        Finding::new(
            "fewest",
            "chunk with the fewest multiplications in all",
            Expected::exactly(7.0),
            least.unwrap_or(0) as f64,
        )
        .in_unit("tokens"),
    ])
}
