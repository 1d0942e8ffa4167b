//! Published models and the Transformers they are held against.

use serde::{Deserialize, Serialize};

use super::ledger::Sizes;

/// Which pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairId {
    /// The two models compiled into this program.
    Own,
    /// mamba-130m.
    Mamba130m,
    /// mamba-370m.
    Mamba370m,
    /// mamba-790m.
    Mamba790m,
    /// mamba-1.4b.
    Mamba1400m,
    /// mamba-2.8b.
    Mamba2800m,
    /// mamba2-130m.
    MambaTwo130m,
    /// mamba2-2.7b.
    MambaTwo2700m,
    /// Falcon-Mamba-7B.
    FalconMamba,
    /// Mamba-Codestral-7B.
    Codestral,
    /// Jamba v0.1.
    Jamba,
}

/// A state-space model, and a Transformer of its class.
#[derive(Debug)]
pub struct Pair {
    /// Its name in presets.
    pub id: PairId,
    /// The model with the fixed state.
    pub model: &'static str,
    /// The Transformer.
    pub other: &'static str,
    /// In what the two are alike.
    pub likeness: &'static str,
    /// Sizes of the model.
    pub sizes: Sizes,
    /// Sizes of the Transformer.
    pub other_sizes: Sizes,
    /// The model's `config.json`, as far as it is not the family's default. The embedded pair brings its own.
    pub config: &'static str,
}

impl PairId {
    /// The pair of that name.
    pub fn pair(self) -> &'static Pair {
        let found = PAIRS.iter().find(|pair| pair.id == self);
        // A test finds each.
        found.unwrap_or(&PAIRS[0])
    }
}

const MATCHED: &str =
    "the same width, the Transformer with half as many layers, and about as many parameters";
const GQA: &str = "a Transformer of that class, with 8 heads of keys and values for 32 of queries";

/// All pairs, in the order of the menu.
pub static PAIRS: [Pair; 11] = [
    Pair {
        id: PairId::Own,
        model: "novel-mamba-3m",
        other: "novel-transformer-4m",
        likeness: "both are in this program: the dots are bytes of buffers while a text is read",
        sizes: Sizes::scans(6, 256, 16, 0),
        other_sizes: Sizes::transformer(4, 256),
        config: "",
    },
    Pair {
        id: PairId::Mamba130m,
        model: "mamba-130m",
        other: "pythia-160m",
        likeness: MATCHED,
        sizes: Sizes::scans(24, 768, 16, 0),
        other_sizes: Sizes::transformer(12, 768),
        config: r#"{"d_model": 768, "n_layer": 24, "ssm_cfg": {}}"#,
    },
    Pair {
        id: PairId::Mamba370m,
        model: "mamba-370m",
        other: "pythia-410m",
        likeness: MATCHED,
        sizes: Sizes::scans(48, 1024, 16, 0),
        other_sizes: Sizes::transformer(24, 1024),
        config: r#"{"d_model": 1024, "n_layer": 48, "ssm_cfg": {}}"#,
    },
    Pair {
        id: PairId::Mamba790m,
        model: "mamba-790m",
        other: "24 layers of width 1,536",
        likeness: "no Pythia has this width; half as many layers of attention are put beside it",
        sizes: Sizes::scans(48, 1536, 16, 0),
        other_sizes: Sizes::transformer(24, 1536),
        config: r#"{"d_model": 1536, "n_layer": 48, "ssm_cfg": {}}"#,
    },
    Pair {
        id: PairId::Mamba1400m,
        model: "mamba-1.4b",
        other: "pythia-1.4b",
        likeness: MATCHED,
        sizes: Sizes::scans(48, 2048, 16, 0),
        other_sizes: Sizes::transformer(24, 2048),
        config: r#"{"d_model": 2048, "n_layer": 48, "ssm_cfg": {}}"#,
    },
    Pair {
        id: PairId::Mamba2800m,
        model: "mamba-2.8b",
        other: "pythia-2.8b",
        likeness: MATCHED,
        sizes: Sizes::scans(64, 2560, 16, 0),
        other_sizes: Sizes::transformer(32, 2560),
        config: r#"{"d_model": 2560, "n_layer": 64, "ssm_cfg": {}}"#,
    },
    Pair {
        id: PairId::MambaTwo130m,
        model: "mamba2-130m",
        other: "pythia-160m",
        likeness: MATCHED,
        sizes: Sizes::scans(24, 768, 128, 1),
        other_sizes: Sizes::transformer(12, 768),
        config: r#"{"d_model": 768, "n_layer": 24, "pad_vocab_size_multiple": 16, "ssm_cfg": {"layer": "Mamba2"}}"#,
    },
    Pair {
        id: PairId::MambaTwo2700m,
        model: "mamba2-2.7b",
        other: "pythia-2.8b",
        likeness: MATCHED,
        sizes: Sizes::scans(64, 2560, 128, 1),
        other_sizes: Sizes::transformer(32, 2560),
        config: r#"{"d_model": 2560, "n_layer": 64, "pad_vocab_size_multiple": 16, "ssm_cfg": {"layer": "Mamba2"}}"#,
    },
    Pair {
        id: PairId::FalconMamba,
        model: "Falcon-Mamba-7B",
        other: "Mistral-7B",
        likeness: GQA,
        sizes: Sizes::scans(64, 4096, 16, 0),
        other_sizes: Sizes::transformer(32, 1024),
        config: r#"{"model_type": "falcon_mamba", "hidden_size": 4096, "num_hidden_layers": 64, "intermediate_size": 8192}"#,
    },
    Pair {
        id: PairId::Codestral,
        model: "Mamba-Codestral-7B",
        other: "Mistral-7B",
        likeness: GQA,
        sizes: Sizes::scans(64, 4096, 128, 8),
        other_sizes: Sizes::transformer(32, 1024),
        config: r#"{"model_type": "mamba2"}"#,
    },
    Pair {
        id: PairId::Jamba,
        model: "Jamba v0.1",
        other: "its 32 layers, all attention",
        likeness: "a hybrid: 28 layers of Mamba, and 4 of attention with a cache of their own",
        sizes: Sizes {
            scans: 28,
            width: 4096,
            expand: 2,
            slots: 16,
            groups: 0,
            attentions: 4,
            kv_width: 1024,
        },
        other_sizes: Sizes::transformer(32, 1024),
        config: r#"{"model_type": "jamba"}"#,
    },
];

#[cfg(test)]
mod tests {
    use super::PAIRS;

    #[test]
    fn every_pair_is_found_by_its_name() {
        for pair in &PAIRS {
            assert_eq!(pair.id.pair().model, pair.model);
        }
    }
}
