use super::*;

/// What protocol 2 writes around its opcodes.
pub(crate) fn whole(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

pub(crate) fn int(number: i32) -> Vec<u8> {
    [b"J", &number.to_le_bytes()[..]].concat()
}

pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(crate) fn stack_global(module: &str, name: &str) -> Vec<u8> {
    [text(module), text(name), vec![op::STACK_GLOBAL]].concat()
}

pub(crate) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub(crate) fn call(callee: &[u8], args: &[Vec<u8>]) -> Vec<u8> {
    [callee, &tuple(args), b"R"].concat()
}

/// The error of a pickle of protocol 2.
fn error(body: &[u8]) -> PickleError {
    read(&whole(body)).unwrap_err()
}

#[track_caller]
fn assert_refused(body: &[u8], wanted: &str) {
    match error(body) {
        PickleError::Refused { name, .. } => assert_eq!(name, wanted),
        other => panic!("{other}"),
    }
}

#[test]
fn plain_values_are_read() {
    let body = tuple(&[
        text("Ω"),
        int(-3),
        b"\x8a\x06\x00\x00\x00\x00\x00\xff".to_vec(),
        b"\x8a\x00".to_vec(),
        b"\x88".to_vec(),
        b"M\x34\x12".to_vec(),
        b"K\xff".to_vec(),
        b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01".to_vec(),
        b"N".to_vec(),
    ]);
    let bytes = whole(&body);
    let pickle = read(&bytes).unwrap();
    let items = pickle.tuple(pickle.root()).unwrap();
    assert_eq!(pickle.text(items[0]), Some("Ω"));
    assert_eq!(
        items[1..],
        [
            Value::Int(-3),
            Value::Int(-1 << 40),
            Value::Int(0),
            Value::Bool(true),
            Value::Int(0x1234),
            Value::Int(255),
            Value::Other("a number of more than 64 bits"),
            Value::None,
        ]
    );
}

#[test]
fn dicts_and_lists_grow_where_they_are_remembered() {
    // {} kept as 0, {"a": [1, 2]}, taken again from 0; a state is put on it and dropped.
    let body = [
        b"}q\x00".to_vec(),
        text("a"),
        b"](K\x01K\x02es0h\x00".to_vec(),
        b"}b".to_vec(),
    ]
    .concat();
    let bytes = whole(&body);
    let pickle = read(&bytes).unwrap();
    let items = pickle.dict(pickle.root()).unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(pickle.kind(items[0].1), "a list");
}

#[test]
fn what_is_not_allowed_is_refused_by_name() {
    let args = [text("echo")];
    assert_refused(&call(&global("os", "system"), &args), "os.system");
    assert_refused(&call(&global("posix", "system"), &args), "posix.system");
    let eval = stack_global("builtins", "eval");
    assert_refused(&call(&eval, &args), "builtins.eval");
    let inst = [b"(", &text("echo")[..], b"iposix\nsystem\n"].concat();
    assert_refused(&inst, "posix.system");
    let object = [b"(", &global("subprocess", "Popen")[..], &text("x"), b"o"].concat();
    assert_refused(&object, "subprocess.Popen");
    let new = [global("os", "Path"), b")\x81".to_vec()].concat();
    assert_refused(&new, "os.Path");
    let build = [global("builtins", "type"), b"}b".to_vec()].concat();
    assert_refused(&build, "builtins.type");
    // An allowed module is not an allowed function, nor the other way round, nor a path through dots.
    assert_refused(&global("torch", "load"), "torch.load");
    assert_refused(&global("os", "OrderedDict"), "os.OrderedDict");
    assert_refused(
        &stack_global("torch", "FloatStorage.__init__"),
        "torch.FloatStorage.__init__",
    );
    // Named but never called.
    assert_refused(
        &[global("os", "system"), b"0N".to_vec()].concat(),
        "os.system",
    );
    // Shown short and printable.
    let long = format!("{}\u{1b}", "é".repeat(200));
    let message = error(&global("os", &long)).to_string();
    assert!(
        message.len() < 500 && !message.contains('\u{1b}'),
        "{message}"
    );
}

#[test]
fn allowed_names_are_written_down_and_not_more() {
    let bytes = whole(&call(&global("torch", "device"), &[text("cpu")]));
    let pickle = read(&bytes).unwrap();
    let (callee, args) = pickle.call(pickle.root()).unwrap();
    assert_eq!((callee, args.len()), (Global::Idle, 1));

    let is_kind = |body: &[u8]| match error(body) {
        PickleError::Kind { .. } => {}
        other => panic!("{other}"),
    };
    // Storages are named, not called; a state is set on dicts alone; texts are not called.
    is_kind(&call(&global("torch", "FloatStorage"), &[]));
    is_kind(&[global("torch", "FloatStorage"), b"}b".to_vec()].concat());
    let tensor = call(&global("torch._utils", "_rebuild_tensor_v2"), &[]);
    is_kind(&[tensor, b"}b".to_vec()].concat());
    is_kind(&call(&text("os.system"), &[]));
    is_kind(&[global("collections", "OrderedDict"), b"]R".to_vec()].concat());
    is_kind(&call(&global("collections", "OrderedDict"), &[int(1)]));
    let named = [
        global("collections", "OrderedDict"),
        b")}".to_vec(),
        text("a"),
        b"Ns\x92".to_vec(),
    ];
    is_kind(&named.concat());
}

#[test]
fn opcodes_of_text_and_of_elsewhere_are_refused_by_name() {
    for (body, wanted) in [
        (&b"I1\n"[..], "INT"),
        (b"Pid\n", "PERSID"),
        (b"\x82\x01", "EXT1"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\xff", "0xff"),
    ] {
        let PickleError::Opcode { at: 2, opcode } = error(body) else {
            panic!("{}", error(body));
        };
        assert_eq!(opcode, wanted);
    }
    for found in [0, 1, 6, 255] {
        let error = read(&[op::PROTO, found, b'N', b'.']).unwrap_err();
        assert_eq!(error, PickleError::Protocol { found });
    }
}

#[test]
fn numbers_in_the_pickle_make_no_room() {
    // Lengths and indices far beyond the file.
    for body in [
        &b"X\xff\xff\xff\xff"[..],
        b"T\xff\xff\xff\x7f",
        b"B\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x95\xff\xff",
    ] {
        assert!(matches!(error(body), PickleError::Truncated { .. }));
    }
    // A huge index is a name like any other, a missing one is an error.
    assert!(read(&whole(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff")).is_ok());
    assert_eq!(
        error(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff"),
        PickleError::Memo {
            at: 8,
            index: 0xffff_fffe
        }
    );
}

#[test]
fn the_stack_and_its_marks_hold() {
    for body in [
        &b""[..],
        b"0",
        b"t",
        b"u",
        b"e",
        b"s",
        b"a",
        b"R",
        b"b",
        b"Q",
        b"2",
        b"q\x00",
        b"\x94",
        b"\x85",
        b"N\x86",
        b"NN\x87",
        b"1",
        b"N(0a",
        b"N(a",
        b"NN(\x86",
        b"}(Nu",
        b"(NNNd",
        b"](NR",
        b"(o",
        b"icollections\nOrderedDict\n",
        b"\x93",
        b"N(",
        b"N(q\x00",
    ] {
        let found = error(body);
        assert!(
            matches!(
                found,
                PickleError::Underflow { .. } | PickleError::Kind { .. }
            ),
            "{body:?}: {found}"
        );
    }
    assert!(read(&whole(b"N(0")).is_ok(), "a mark may be taken away");
}

#[test]
fn every_beginning_of_a_pickle_is_an_error() {
    let body = [
        call(&global("collections", "OrderedDict"), &[]),
        text("a"),
        b"\x8a\x02\x01\x02sr\x01\x00\x00\x00".to_vec(),
        b"(\x8c\x01b\x95\x00\x00\x00\x00\x00\x00\x00\x00G\x00\x00\x00\x00\x00\x00\x00\x00u"
            .to_vec(),
        stack_global("torch", "float16"),
        b"0".to_vec(),
    ];
    let bytes = whole(&body.concat());
    assert!(read(&bytes).is_ok());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn depth_and_circles_are_only_indices() {
    let deep = 400_000;
    // Tuples in tuples, lists in lists, persistent ids in persistent ids, parameters in parameters.
    let tuples = [&b")"[..], &b"\x85".repeat(deep)].concat();
    let lists = [b"]".repeat(deep), b"a".repeat(deep - 1)].concat();
    let ids = [&b"N"[..], &b"Q".repeat(deep)].concat();
    let callee = global("torch._utils", "_rebuild_parameter");
    let parameters = [
        &callee[..],
        b"q\x00",
        &b"h\x00".repeat(deep),
        b")",
        &b"R\x85".repeat(deep),
    ]
    .concat();
    for body in [tuples, lists, ids, parameters] {
        drop(read(&whole(&body)).unwrap());
    }
    // A list and a dict that hold themselves.
    assert!(read(&whole(b"]q\x00h\x00a")).is_ok());
    assert!(read(&whole(b"}q\x00h\x00h\x00s")).is_ok());
}

#[test]
fn more_than_any_checkpoint_is_refused() {
    let is_limit = |body: &[u8], wanted: &str| match error(body) {
        PickleError::Limit { what, .. } => assert_eq!(what, wanted),
        other => panic!("{other}"),
    };
    is_limit(&b"N".repeat(2 << 20), "values at once");
    is_limit(
        &[&b"N"[..], &b"2".repeat(2 << 20)].concat(),
        "values at once",
    );
    is_limit(&b"(".repeat(2 << 20), "marks at once");
    is_limit(&b"]0".repeat(3 << 20), "objects");
    let memo = |i: u32| [&b"r"[..], &i.to_le_bytes()].concat();
    let memo: Vec<u8> = (0..3 << 20).flat_map(memo).collect();
    is_limit(&[b"N", &memo[..]].concat(), "remembered values");
    is_limit(&vec![b'N'; MAX_PICKLE_BYTES], "bytes");
}

#[test]
fn texts_are_utf8() {
    assert_eq!(error(b"U\x01\xff"), PickleError::NotText { at: 2 });
}
