//! What the symbols of the formulas mean, for whoever rests the pointer on one.

/// Symbol as TeX writes it, meaning, shape.
pub const GLOSSARY: &[(&str, &str, &str)] = &[
    (
        "h",
        "hidden state: what the model remembers",
        "d × n (channels × slots)",
    ),
    ("u", "input of the state-space model", "l × d"),
    (
        "x",
        "input of the scan, behind convolution and SiLU",
        "l × d",
    ),
    ("y", "output", "l × d"),
    ("z", "gate, or the value Δ is made of", "l × d"),
    (
        "A",
        "how fast each slot forgets; below zero",
        "d × n, or n × n",
    ),
    (
        r"\bar A",
        "share of the state a step keeps",
        "as A, for each token",
    ),
    (
        "B",
        "how the input is written into the slots",
        "n, in Mamba for each token",
    ),
    (
        r"\bar B",
        "weight of the input in a step",
        "n, in Mamba for each token",
    ),
    ("C", "how the slots are read", "n, in Mamba for each token"),
    ("D", "skip: the input's way around the state", "d"),
    ("Δ", "step size: how long a token lasts", "l × d"),
    ("N", "slots of a state", "a number"),
    (
        "L",
        "tokens, or the mask of a lower triangle",
        "a number, or l × l",
    ),
    ("K", "kernel of the convolution", "l"),
    ("M", "matrix that mixes tokens", "l × l"),
    ("P", "width of a head", "a number"),
    ("Q", "tokens of a chunk", "a number"),
    ("t", "token, or time", "a number"),
    ("k", "token looked back at, or tap", "a number"),
    ("n", "slot", "a number"),
    ("d", "channel", "a number"),
    ("g", "gate: σ of what Δ is made of", "l × d"),
    ("α", "weight of an earlier token in an output", "l × l"),
    ("σ", "the sigmoid 1/(1 + exp(−z))", "a function"),
    ("W", "weights of a projection", "a matrix"),
];

/// Meaning and shape of a symbol.
pub fn meaning(symbol: &str) -> Option<(&'static str, &'static str)> {
    let found = GLOSSARY.iter().find(|(name, ..)| *name == symbol)?;
    Some((found.1, found.2))
}
