//! Files made to do harm, and damaged ones.

use super::*;

#[test]
fn nothing_of_a_malicious_pickle_is_run() {
    let left = std::env::temp_dir().join(format!("left-by-a-pickle-{}", std::process::id()));
    let command = text(&format!("touch {}", left.display()));
    let os = call(&global("os", "system"), std::slice::from_ref(&command));
    let hidden = state(&[("x", twelve(&[12], &[1]).pickled()), ("y", os.clone())]);
    let eval = call(
        &stack_global("builtins", "eval"),
        std::slice::from_ref(&command),
    );
    for (body, wanted) in [
        (os, "os.system"),
        (hidden, "os.system"),
        (eval, "builtins.eval"),
    ] {
        let error = read(&torch(&whole(&body), &[counting(12)])).unwrap_err();
        let TorchError::Pickle(PickleError::Refused { name, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!(name, wanted);
        assert!(error.to_string().contains(wanted));
    }
    assert!(!left.exists());
}

#[test]
fn a_view_must_lie_in_its_storage() {
    let outside = |made: &Made| match damage(&file_of(made)) {
        Damage::ViewOutside { .. } => {}
        other => panic!("{other}"),
    };
    let max = i32::MAX;
    outside(&twelve(&[13], &[1]));
    outside(&twelve(&[4, 3], &[4, 1]));
    outside(&twelve(&[2], &[12]));
    outside(&twelve(&[max; 8], &[0; 8]));
    outside(&twelve(&[max; 8], &[max; 8]));
    outside(&Made {
        offset: 1,
        ..twelve(&[12], &[1])
    });
    outside(&Made {
        offset: 12,
        ..twelve(&[], &[])
    });
    outside(&Made {
        offset: 13,
        ..twelve(&[0], &[1])
    });
    outside(&Made {
        offset: max,
        ..twelve(&[2], &[1])
    });
    assert!(
        read(&file_of(&Made {
            offset: 12,
            ..twelve(&[0, max], &[max, 1])
        }))
        .is_ok()
    );

    // The same number in 64 bits, where products and sums overflow.
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec();
    for (offset, size, stride) in [
        (&huge, int(12), int(1)),
        (&int(0), huge.clone(), huge.clone()),
        (&int(1), int(2), huge.clone()),
    ] {
        let args = [
            twelve(&[], &[]).storage(),
            offset.clone(),
            tuple(&[size]),
            tuple(&[stride]),
        ];
        let tensor = call(&global("torch._utils", "_rebuild_tensor"), &args);
        let file = torch(&whole(&state(&[("x", tensor)])), &[counting(12)]);
        assert!(matches!(damage(&file), Damage::ViewOutside { .. }));
    }
}

#[test]
fn a_view_may_not_grow_beyond_its_storage_nor_copies_beyond_the_file() {
    let made = twelve(&[i32::MAX, 2], &[0, 0]);
    assert!(matches!(damage(&file_of(&made)), Damage::Repeats { .. }));

    let tensors: Vec<(String, Vec<u8>)> = (0..200)
        .map(|i| (format!("{i}"), b"h\x00".to_vec()))
        .collect();
    let tensors: Vec<(&str, Vec<u8>)> = tensors
        .iter()
        .map(|(n, t)| (n.as_str(), t.clone()))
        .collect();
    let turned = Made::new("FloatStorage", "0", 1200, &[3, 400], &[1, 3]).pickled();
    let body = [&turned[..], b"q\x00", &state(&tensors)].concat();
    let file = torch(&whole(&body), &[floats([0.5; 1200])]);
    assert!(matches!(damage(&file), Damage::Copies { .. }));
}

#[test]
fn parts_of_a_tensor_are_checked() {
    let wrong = |made: &Made, wanted: &str| match damage(&file_of(made)) {
        Damage::Field { field, .. } => assert_eq!(field, wanted),
        other => panic!("{other}"),
    };
    wrong(
        &Made {
            offset: -1,
            ..twelve(&[12], &[1])
        },
        "the offset",
    );
    wrong(&twelve(&[-1], &[1]), "the size");
    wrong(&twelve(&[2, 2], &[-1, 1]), "the stride");
    wrong(&twelve(&[2, 2], &[1]), "the stride");
    wrong(&twelve(&[1; 9], &[1; 9]), "the size");
    wrong(
        &Made {
            elements: -12,
            ..twelve(&[12], &[1])
        },
        "the length of the storage",
    );

    // A persistent id inside another, one without its parts, one of a class without dtype.
    let rebuild = |storage: Vec<u8>| {
        let args = [storage, int(0), tuple(&[]), tuple(&[])];
        let tensor = call(&global("torch._utils", "_rebuild_tensor"), &args);
        torch(&whole(&state(&[("x", tensor)])), &[counting(12)])
    };
    let nested = [twelve(&[], &[]).storage(), b"QQ".to_vec()].concat();
    let short = [tuple(&[text("storage")]), b"Q".to_vec()].concat();
    let untyped = tuple(&[
        text("storage"),
        global("torch.storage", "UntypedStorage"),
        text("0"),
        text("cpu"),
        int(48),
    ]);
    let module = tuple(&[
        text("module"),
        b"N".to_vec(),
        text("0"),
        text("cpu"),
        int(12),
    ]);
    for storage in [
        nested,
        short,
        [untyped, b"Q".to_vec()].concat(),
        [module, b"Q".to_vec()].concat(),
        int(0),
    ] {
        assert!(matches!(
            damage(&rebuild(storage)),
            Damage::Field {
                field: "the storage",
                ..
            }
        ));
    }
    // Parameters of parameters, calls without arguments.
    let parameter = global("torch._utils", "_rebuild_parameter");
    let inner = call(&parameter, &[twelve(&[], &[]).pickled()]);
    for tensor in [
        call(&parameter, &[inner]),
        call(&parameter, &[]),
        call(&global("torch._utils", "_rebuild_tensor_v2"), &[int(0)]),
    ] {
        let file = torch(&whole(&state(&[("x", tensor)])), &[counting(12)]);
        assert!(matches!(damage(&file), Damage::Field { .. }));
    }
}

#[test]
fn storages_are_there_and_as_long_as_said() {
    let absent = Made {
        key: "7",
        ..twelve(&[12], &[1])
    };
    assert!(
        matches!(damage(&file_of(&absent)), Damage::NoStorage { file, .. } if file == "archive/data/7")
    );
    let outside = Made {
        key: "../data.pkl",
        ..twelve(&[12], &[1])
    };
    assert!(matches!(
        damage(&file_of(&outside)),
        Damage::NoStorage { .. }
    ));
    for made in [
        Made {
            elements: 11,
            ..twelve(&[1], &[1])
        },
        Made {
            elements: 13,
            ..twelve(&[1], &[1])
        },
        Made {
            class: "HalfStorage",
            ..twelve(&[1], &[1])
        },
        Made {
            class: "DoubleStorage",
            elements: i32::MAX,
            ..twelve(&[1], &[1])
        },
    ] {
        assert!(matches!(
            damage(&file_of(&made)),
            Damage::StorageLength { .. }
        ));
    }
}

/// Changes bytes of both headers, the local and the central one, of the archive's last file.
fn change_headers(file: &mut [u8], local: usize, central: usize, bytes: &[u8]) {
    for (magic, at) in [(b"PK\x03\x04", local), (b"PK\x01\x02", central)] {
        let start = file.windows(4).rposition(|window| window == magic).unwrap();
        file[start + at..][..bytes.len()].copy_from_slice(bytes);
    }
}

#[test]
fn files_are_stored_as_they_are_and_named_once() {
    let of = |found| Damage::NotStored {
        file: "archive/.data/serialization_id".into(),
        found,
    };
    let mut compressed = good();
    change_headers(&mut compressed, 8, 10, &[8, 0]);
    assert_eq!(damage(&compressed), of("compressed"));
    let mut longer = good();
    change_headers(&mut longer, 22, 24, &[200, 0]);
    assert_eq!(damage(&longer), of("compressed"));
    let mut encrypted = good();
    change_headers(&mut encrypted, 6, 8, &[1, 0]);
    assert_eq!(damage(&encrypted), of("encrypted"));
    let mut beyond = good();
    change_headers(&mut beyond, 18, 20, &[255, 255, 255, 0, 255, 255, 255, 0]);
    assert!(matches!(damage(&beyond), Damage::FileOutside { .. }));

    let mut twice = archive(&[("a/data.pkl", b"N."), ("a/data/0", b""), ("a/data/1", b"")]);
    let at = twice
        .windows(8)
        .rposition(|window| window == b"a/data/1")
        .unwrap();
    twice[at + 7] = b'0';
    assert_eq!(damage(&twice), Damage::SameFile);
    let two = archive(&[("a/data.pkl", b"N."), ("b/data.pkl", b"N.")]);
    assert_eq!(damage(&two), Damage::TwoPickles);

    for (order, found) in [(&b"big"[..], "big"), (b"middle", "unknown")] {
        let file = archive(&[("a/data.pkl", b"N."), ("a/byteorder", order)]);
        assert_eq!(read(&file).unwrap_err(), TorchError::ByteOrder { found });
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let file = good();
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "{length}");
    }
    let half = &file[..file.len() / 2];
    assert_eq!(damage(half), Damage::NoDirectory);
}

#[test]
fn no_change_of_bytes_makes_it_panic_or_hold_more_than_the_file() {
    const ROUNDS: usize = 20_000;
    let (pickle, storages) = good_parts();
    let file = good();
    let list = file.windows(4).position(|window| window == b"PK\x01\x02");
    let (numbers, list) = file.split_at(list.unwrap());
    let mut random = Random(0x5eed);
    let mut read_well = 0;
    for round in 0..ROUNDS {
        let changed = [
            torch(&random.change(&pickle), &storages),
            [numbers, &random.change(list)].concat(),
            random.change(&file),
        ];
        for changed in changed {
            if let Ok(entries) = read(&changed) {
                let owned = entries.iter().map(|entry| owned_bytes(&changed, entry));
                assert!(owned.sum::<usize>() <= changed.len(), "round {round}");
                read_well += 1;
            }
        }
    }
    // Otherwise the changes would be too coarse to reach far.
    assert!(read_well > ROUNDS / 10, "{read_well}");
}

/// Bytes held beside the file; those in it are in it and as many as the shape says.
fn owned_bytes(file: &[u8], entry: &Entry) -> usize {
    let wanted = entry.shape.iter().product::<usize>() * entry.dtype.bitsize() / 8;
    assert_eq!(bytes_of(file, entry).len(), wanted);
    match &entry.place {
        Place::File(_) => 0,
        Place::Owned(bytes) => bytes.len(),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One to four bytes replaced, put in or taken out.
    fn change(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(changed.len());
            match self.below(16) {
                0 => drop(changed.remove(at)),
                1 => changed.insert(at, self.byte()),
                2 | 3 => changed[at] = 0xff,
                4..8 => changed[at] = changed[self.below(changed.len())],
                8..12 => changed[at] ^= 1 << self.below(8),
                _ => changed[at] = self.byte(),
            }
        }
        changed
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}
