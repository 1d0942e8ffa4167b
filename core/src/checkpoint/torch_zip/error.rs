//! What can be wrong with a torch file, in sentences for the person who picked it.

use thiserror::Error;

use crate::checkpoint::pickle::PickleError;

/// Why a torch file was not read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TorchError {
    /// Torch's format before 1.6, a pickle without a zip archive.
    #[error(
        "this is a torch file of the kind before version 1.6, which is not read. Load it with torch and save it again, or \
         save its tensors as safetensors"
    )]
    Legacy,
    /// Safetensors by another name.
    #[error("this is a safetensors file. Rename it to model.safetensors")]
    Safetensors,
    /// The stand-in that git leaves for a large file.
    #[error(
        "this is a Git LFS pointer, not the weights. Download the file itself, for example with `git lfs pull`"
    )]
    LfsPointer,
    /// Something else altogether.
    #[error(
        "this is not a file that torch.save wrote: it is no zip archive. Download the file again"
    )]
    NotZip,
    /// A zip archive, but not of torch.
    #[error(
        "this is a zip archive, but not one that torch.save wrote: it has no <name>/data.pkl. Choose another file"
    )]
    NoPickle,
    /// Numbers whose highest byte comes first.
    #[error(
        "its numbers are stored {found}-endian, wanted little-endian. Save the tensors on a little-endian machine, or as safetensors"
    )]
    ByteOrder {
        /// The order it says.
        found: &'static str,
    },
    /// A pickle of something else.
    #[error(
        "it holds {found}, wanted a dict from name to tensor, or one under `model` or `state_dict`. Save the model's \
         state_dict()"
    )]
    NotStateDict {
        /// What there is.
        found: &'static str,
    },
    /// A pickle that cannot or must not be read.
    #[error("data.pkl: {0}")]
    Pickle(#[from] PickleError),
    /// Something that does not fit together.
    #[error("{0}. The file is damaged or was not downloaded completely: download it again")]
    Damaged(Damage),
}

/// What does not fit together in a torch file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// An archive without its end.
    #[error("the zip archive has no list of files at its end")]
    NoDirectory,
    /// More files than any checkpoint.
    #[error("the zip archive lists {found} files, wanted at most {most}")]
    TooManyFiles {
        /// Files it says it has.
        found: u64,
        /// The most that are read.
        most: usize,
    },
    /// Something the `zip` crate refuses.
    #[error("the zip archive is not valid: {reason}")]
    Zip {
        /// What the crate says.
        reason: String,
    },
    /// Two files of one name.
    #[error("the zip archive has two files of one name")]
    SameFile,
    /// Two pickles.
    #[error("the zip archive has more than one <name>/data.pkl")]
    TwoPickles,
    /// A file that cannot be used where it lies.
    #[error("{file:?} is {found}, wanted stored as it is")]
    NotStored {
        /// The file.
        file: String,
        /// Compressed or encrypted.
        found: &'static str,
    },
    /// A file beyond the archive's end.
    #[error(
        "{file:?} is said to have {length} bytes from byte {start}, but the archive ends before"
    )]
    FileOutside {
        /// The file.
        file: String,
        /// Where it begins.
        start: u64,
        /// Its length.
        length: u64,
    },
    /// A key that is no name.
    #[error("the name of a tensor is {found}, wanted a text")]
    NotAName {
        /// What it is.
        found: &'static str,
    },
    /// More tensors than any checkpoint.
    #[error("there are {found} tensors, wanted at most {most}")]
    TooManyTensors {
        /// Tensors there are.
        found: usize,
        /// The most that are read.
        most: usize,
    },
    /// Two tensors of one name.
    #[error("two tensors are called {tensor:?}")]
    SameName {
        /// The name.
        tensor: String,
    },
    /// A part of a tensor that is something else.
    #[error("tensor {tensor:?}: {field} is {found}, wanted {wanted}")]
    Field {
        /// The tensor.
        tensor: String,
        /// The part.
        field: &'static str,
        /// What it is.
        found: String,
        /// What would have been accepted.
        wanted: &'static str,
    },
    /// A storage that is not in the archive.
    #[error("tensor {tensor:?}: its numbers should be in {file:?}, which is missing")]
    NoStorage {
        /// The tensor.
        tensor: String,
        /// The file of the storage.
        file: String,
    },
    /// A storage of another length than the pickle says.
    #[error(
        "tensor {tensor:?}: {elements} elements of {dtype} should be in {file:?}, which has {found} bytes"
    )]
    StorageLength {
        /// The tensor.
        tensor: String,
        /// The file of the storage.
        file: String,
        /// Elements it should have.
        elements: usize,
        /// Of which dtype.
        dtype: String,
        /// Bytes it has.
        found: usize,
    },
    /// A view beyond its storage.
    #[error(
        "tensor {tensor:?}: size {size:?} with strides {stride:?} from element {offset} does not fit its storage of {elements}"
    )]
    ViewOutside {
        /// The tensor.
        tensor: String,
        /// Its first element.
        offset: usize,
        /// Its size.
        size: Vec<usize>,
        /// Its strides.
        stride: Vec<usize>,
        /// Elements of the storage.
        elements: usize,
    },
    /// A view that repeats elements of its storage, perhaps endlessly.
    #[error("tensor {tensor:?}: size {size:?} has more elements than its storage of {elements}")]
    Repeats {
        /// The tensor.
        tensor: String,
        /// Its size.
        size: Vec<usize>,
        /// Elements of the storage.
        elements: usize,
    },
    /// Too many views out of order.
    #[error(
        "tensor {tensor:?}: with those before it, more bytes are out of order than the file has"
    )]
    Copies {
        /// The tensor.
        tensor: String,
    },
}

impl From<Damage> for TorchError {
    fn from(damage: Damage) -> Self {
        TorchError::Damaged(damage)
    }
}
