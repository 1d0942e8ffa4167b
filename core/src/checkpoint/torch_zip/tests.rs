//! Files that torch could have written, and other files.

mod hostile;

use std::io::{Cursor, Write};

use half::{bf16, f16};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;
use crate::checkpoint::pickle::PickleError;
use crate::checkpoint::pickle::tests::{call, global, int, stack_global, text, tuple, whole};

/// A file as torch lays it out: storages begin at multiples of 64.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    archive_with(files, SimpleFileOptions::default())
}

fn archive_with(files: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let options = options
        .compression_method(CompressionMethod::Stored)
        .with_alignment(64);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A file of one pickle and storages "0", "1", ….
fn torch(pickle: &[u8], storages: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<String> = (0..storages.len())
        .map(|key| format!("archive/data/{key}"))
        .collect();
    let mut files = vec![
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
    ];
    let storages = storages.iter().map(Vec::as_slice);
    files.extend(names.iter().map(String::as_str).zip(storages));
    files.push(("archive/version", b"3\n"));
    files.push(("archive/.data/serialization_id", b"0123"));
    archive(&files)
}

/// What a test changes of a view to make it wrong.
#[derive(Clone)]
struct Made {
    class: &'static str,
    key: &'static str,
    elements: i32,
    offset: i32,
    size: Vec<i32>,
    stride: Vec<i32>,
}

impl Made {
    fn new(
        class: &'static str,
        key: &'static str,
        elements: i32,
        size: &[i32],
        stride: &[i32],
    ) -> Self {
        Self {
            class,
            key,
            elements,
            offset: 0,
            size: size.into(),
            stride: stride.into(),
        }
    }

    fn storage(&self) -> Vec<u8> {
        let id = [
            text("storage"),
            global("torch", self.class),
            text(self.key),
            text("cpu"),
            int(self.elements),
        ];
        [tuple(&id), b"Q".to_vec()].concat()
    }

    fn pickled(&self) -> Vec<u8> {
        let axes = |axes: &[i32]| tuple(&axes.iter().map(|&axis| int(axis)).collect::<Vec<_>>());
        let args = [
            self.storage(),
            int(self.offset),
            axes(&self.size),
            axes(&self.stride),
            b"\x89".to_vec(),
            call(&global("collections", "OrderedDict"), &[]),
        ];
        call(&global("torch._utils", "_rebuild_tensor_v2"), &args)
    }
}

/// An OrderedDict with `_metadata` on it, as torch pickles a state dict.
fn state(tensors: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = tensors
        .iter()
        .map(|(name, tensor)| [text(name), tensor.clone()].concat());
    let items: Vec<Vec<u8>> = items.collect();
    let dict = call(&global("collections", "OrderedDict"), &[]);
    let metadata = [b"}", &text("_metadata")[..], b"}sb"].concat();
    [&dict, &b"("[..], &items.concat(), b"u", &metadata].concat()
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn counting(count: u8) -> Vec<u8> {
    floats((0..count).map(f32::from))
}

/// A file of one tensor `x` over the storage 0, 1, …, 11.
fn file_of(made: &Made) -> Vec<u8> {
    torch(&whole(&state(&[("x", made.pickled())])), &[counting(12)])
}

fn twelve(size: &[i32], stride: &[i32]) -> Made {
    Made::new("FloatStorage", "0", 12, size, stride)
}

fn damage(bytes: &[u8]) -> Damage {
    match read(bytes).unwrap_err() {
        TorchError::Damaged(damage) => damage,
        other => panic!("{other}"),
    }
}

fn bytes_of<'a>(file: &'a [u8], entry: &'a Entry) -> &'a [u8] {
    match &entry.place {
        Place::File(range) => &file[range.clone()],
        Place::Owned(bytes) => bytes,
    }
}

/// A file with everything that is allowed.
fn good() -> Vec<u8> {
    let (pickle, storages) = good_parts();
    torch(&pickle, &storages)
}

fn good_parts() -> (Vec<u8>, [Vec<u8>; 3]) {
    let embedding = twelve(&[4, 3], &[3, 1]);
    let halves = Made::new("HalfStorage", "1", 2, &[2], &[1]);
    let brains = Made::new("BFloat16Storage", "2", 2, &[2, 1, 1], &[1, 1, 1]);
    let turned = twelve(&[3, 4], &[1, 3]);
    let mut part = twelve(&[2, 3], &[3, 1]);
    part.offset = 6;
    let parameter = [embedding.pickled(), b"\x88".to_vec(), b"}".to_vec()];
    let parameter = call(&global("torch._utils", "_rebuild_parameter"), &parameter);
    let body = state(&[
        ("backbone.embedding.weight", embedding.pickled()),
        ("lm_head.weight", parameter),
        ("half", halves.pickled()),
        ("brain", brains.pickled()),
        ("turned", turned.pickled()),
        ("part", part.pickled()),
        ("scalar", twelve(&[], &[]).pickled()),
        ("empty", twelve(&[0, 5], &[5, 1]).pickled()),
    ]);
    let storages = [
        counting(12),
        [1.5, -2.0]
            .map(f16::from_f32)
            .map(f16::to_le_bytes)
            .concat(),
        [1.5, -2.0]
            .map(bf16::from_f32)
            .map(bf16::to_le_bytes)
            .concat(),
    ];
    (whole(&body), storages)
}

#[test]
fn a_state_dict_is_read() {
    let file = good();
    let entries = read(&file).unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "backbone.embedding.weight",
            "lm_head.weight",
            "half",
            "brain",
            "turned",
            "part",
            "scalar",
            "empty"
        ]
    );
    let [embedding, head, half, brain, turned, part, scalar, empty] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(
        (embedding.dtype, &embedding.shape[..]),
        (Dtype::F32, &[4, 3][..])
    );
    assert_eq!(bytes_of(&file, embedding), counting(12));
    assert!(matches!(embedding.place, Place::File(_)));
    assert_eq!(
        (&head.place, &head.shape),
        (&embedding.place, &embedding.shape)
    );
    assert_eq!((half.dtype, brain.dtype), (Dtype::F16, Dtype::BF16));
    assert_eq!(bytes_of(&file, half), [0x00, 0x3e, 0x00, 0xc0]);
    assert_eq!(bytes_of(&file, brain), [0xc0, 0x3f, 0x00, 0xc0]);
    assert_eq!(brain.shape, [2, 1, 1]);
    let columns = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11].map(|i: u8| f32::from(i));
    assert_eq!(bytes_of(&file, turned), floats(columns));
    assert_eq!(
        bytes_of(&file, part),
        floats([6.0, 7.0, 8.0, 9.0, 10.0, 11.0])
    );
    assert_eq!((scalar.shape.len(), bytes_of(&file, scalar).len()), (0, 4));
    assert_eq!(
        (&empty.shape[..], bytes_of(&file, empty).len()),
        (&[0, 5][..], 0)
    );
}

#[test]
fn views_of_every_kind_are_put_in_order() {
    let picked = |made: &Made| {
        let file = file_of(made);
        let entries = read(&file).unwrap();
        let bytes = bytes_of(&file, &entries[0]).to_vec();
        let picked: Vec<f32> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        (picked, matches!(entries[0].place, Place::File(_)))
    };
    assert_eq!(
        picked(&twelve(&[2, 2], &[6, 2])),
        (vec![0.0, 2.0, 6.0, 8.0], false)
    );
    assert_eq!(
        picked(&twelve(&[4, 1], &[3, 1])),
        (vec![0.0, 3.0, 6.0, 9.0], false)
    );
    assert_eq!(picked(&twelve(&[3], &[0])), (vec![0.0; 3], false));
    let cube = twelve(&[2, 3, 2], &[1, 2, 6]);
    let wanted = [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11].map(|i: u8| f32::from(i));
    assert_eq!(picked(&cube), (wanted.to_vec(), false));
    // An axis of one element may have any stride.
    let odd = twelve(&[1, 2, 1], &[i32::MAX, 1, i32::MAX]);
    assert_eq!(picked(&odd), (vec![0.0, 1.0], true));
    let odd = twelve(&[1, 2, 1, 2], &[i32::MAX, 1, i32::MAX, 2]);
    assert_eq!(picked(&odd), (vec![0.0, 2.0, 1.0, 3.0], false));
}

#[test]
fn a_state_dict_may_lie_one_level_deeper_or_be_plain() {
    let tensors = state(&[("x", twelve(&[12], &[1]).pickled())]);
    for key in ["model", "state_dict"] {
        let body = [
            b"}(",
            &text("epoch")[..],
            b"K\x03",
            &text(key),
            &tensors,
            b"u",
        ]
        .concat();
        let entries = read(&torch(&whole(&body), &[counting(12)])).unwrap();
        assert_eq!(entries[0].name, "x");
    }
    let old = [
        twelve(&[], &[]).storage(),
        int(3),
        tuple(&[int(2)]),
        tuple(&[int(1)]),
    ];
    let old = call(&stack_global("torch._utils", "_rebuild_tensor"), &old);
    let body = [b"}", &text("x")[..], &old, b"s"].concat();
    let file = torch(&whole(&body), &[counting(12)]);
    let entries = read(&file).unwrap();
    assert_eq!(bytes_of(&file, &entries[0]), floats([3.0, 4.0]));
}

#[test]
fn long_forms_of_the_archive_are_read() {
    let pickle = whole(&state(&[("x", twelve(&[12], &[1]).pickled())]));
    let files: [(&str, &[u8]); 2] = [("m/data.pkl", &pickle), ("m/data/0", &counting(12))];
    let file = archive_with(&files, SimpleFileOptions::default().large_file(true));
    assert_eq!(bytes_of(&file, &read(&file).unwrap()[0]), counting(12));

    // The long end, as torch writes it: the record, its locator, and a short end that points to them.
    let plain = archive(&files);
    let (rest, end) = plain.split_at(plain.len() - 22);
    let (count, size, start) = (files.len() as u64, u32_at(end, 12), u32_at(end, 16));
    let mut long = rest.to_vec();
    long.extend(b"PK\x06\x06");
    long.extend(44_u64.to_le_bytes());
    long.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [count, count, size.into(), start.into()] {
        long.extend(number.to_le_bytes());
    }
    long.extend(b"PK\x06\x07\0\0\0\0");
    long.extend((rest.len() as u64).to_le_bytes());
    long.extend(1_u32.to_le_bytes());
    long.extend(b"PK\x05\x06\0\0\0\0");
    long.extend([0xff; 12]);
    long.extend([0, 0]);
    assert_eq!(bytes_of(&long, &read(&long).unwrap()[0]), counting(12));

    // More files than there can be, up to numbers that would make room for all memory.
    for found in [MAX_ENTRIES as u64 + 1, u64::MAX / 46, u64::MAX] {
        let mut many = long.clone();
        many[rest.len() + 24..][..8].copy_from_slice(&found.to_le_bytes());
        many[rest.len() + 32..][..8].copy_from_slice(&found.to_le_bytes());
        let most = MAX_ENTRIES;
        assert_eq!(damage(&many), Damage::TooManyFiles { found, most });
        // Hidden in front of another end.
        many.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(damage(&many), Damage::TooManyFiles { found, most });
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

#[test]
fn other_files_are_called_by_their_names() {
    let error = |bytes: &[u8]| read(bytes).unwrap_err();
    let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    assert_eq!(error(magic), TorchError::Legacy);
    let framed = b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    assert_eq!(error(framed), TorchError::Legacy);
    assert_eq!(error(b"\x02\0\0\0\0\0\0\0{}"), TorchError::Safetensors);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    assert_eq!(error(pointer), TorchError::LfsPointer);
    for other in [&b""[..], b"P", b"<html>", b"GGUF\x03\0\0\0"] {
        assert_eq!(error(other), TorchError::NotZip);
    }
    assert_eq!(error(&archive(&[("a.txt", b"")])), TorchError::NoPickle);
    assert_eq!(
        error(&archive(&[("a/b/data.pkl", b"")])),
        TorchError::NoPickle
    );
}

#[test]
fn what_is_no_state_dict_is_said_so() {
    let error = |body: &[u8]| read(&torch(&whole(body), &[counting(12)])).unwrap_err();
    let tensor = twelve(&[12], &[1]).pickled();
    for (body, found) in [
        (tensor.clone(), "a tensor"),
        (b"]".to_vec(), "a list"),
        (b"}".to_vec(), "a dict without tensors"),
        (twelve(&[], &[]).storage(), "a storage"),
    ] {
        assert_eq!(error(&body), TorchError::NotStateDict { found });
    }
    let named_by_number = [b"}K\x01", &tensor[..], b"s"].concat();
    let found = "a whole number";
    assert_eq!(error(&named_by_number), Damage::NotAName { found }.into());
    let beside = state(&[("x", tensor.clone()), ("y", int(1))]);
    assert!(matches!(
        error(&beside),
        TorchError::Damaged(Damage::Field { .. })
    ));
    let twice = state(&[("x", tensor.clone()), ("x", tensor)]);
    let tensor = "x".into();
    assert_eq!(error(&twice), Damage::SameName { tensor }.into());
}
