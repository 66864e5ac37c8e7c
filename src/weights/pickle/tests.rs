//! Tests of the reader, on files that are written here.

use crate::error::{Error, Result};
use crate::weights::file::{Header, read_tensors};
use crate::weights::mapped::Tensors;
use std::io::Write;
use tch::{Kind, Tensor};

/// A pickle that is being written.
#[derive(Clone, Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    /// Begins a pickle of protocol 2.
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn int(self, number: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&number.to_le_bytes())
    }

    fn ints(self, numbers: &[i64]) -> Self {
        numbers.iter().fold(self.raw(b"("), |pickle, number| pickle.int(*number)).raw(b"t")
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// Writes a storage.
    fn storage(self, class: &str, key: &str, elements: i64) -> Self {
        self.raw(b"(").text("storage").global("torch", class).text(key).text("cpu").int(elements).raw(b"tQ")
    }

    /// Writes a tensor of floats.
    fn tensor(self, key: &str, elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        let start = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage("FloatStorage", key, elements);
        start.int(offset).ints(shape).ints(strides).raw(b"\x89}tR")
    }

    /// Ends the pickle.
    fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// Builds a zip file of stored records in the folder `archive`.
fn zip_of(records: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in records {
        let (name, start) = (format!("archive/{name}"), file.len() as u32);
        let size = (bytes.len() as u32).to_le_bytes();
        let padding = (64 - (file.len() + 30 + name.len()) % 64) % 64;
        let numbers = [&size[..], &size, &(name.len() as u16).to_le_bytes()].concat();
        file.extend([b"PK\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", &numbers[..]].concat());
        file.extend((padding as u16).to_le_bytes());
        file.extend(name.bytes().chain(std::iter::repeat_n(b'F', padding)).chain(bytes.iter().copied()));
        directory.extend([&b"PK\x01\x02"[..], &[0; 16], &numbers, &[0; 12], &start.to_le_bytes()].concat());
        directory.extend(name.bytes());
    }
    let (size, start, count) = (directory.len() as u32, file.len() as u32, records.len() as u16);
    file.extend(directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &count.to_le_bytes(), &count.to_le_bytes()].concat());
    file.extend([&size.to_le_bytes()[..], &start.to_le_bytes(), &[0, 0]].concat());
    file
}

/// Builds a zip file of a pickle, and of storages of floats that count from 0.
fn archive(pickle: Vec<u8>, storages: &[i64]) -> Vec<u8> {
    let floats = |elements: &i64| (0..*elements).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>();
    let storages: Vec<(String, Vec<u8>)> =
        storages.iter().enumerate().map(|(key, elements)| (format!("data/{key}"), floats(elements))).collect();
    let records = storages.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    zip_of(&std::iter::once(("data.pkl", pickle.as_slice())).chain(records).collect::<Vec<_>>())
}

/// Builds a checkpoint of tensors with one number each.
pub(in crate::weights) fn checkpoint(names: &[&str]) -> Vec<u8> {
    let start = Pickle::new().raw(b"}(");
    let tensors = names.iter().fold(start, |pickle, name| pickle.text(name).tensor("0", 1, 0, &[1], &[1]));
    archive(tensors.raw(b"u").stop(), &[1])
}

fn stored(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(bytes: &[u8]) -> Result<Tensors> {
    read_tensors(stored(bytes).path())
}

fn problem(bytes: &[u8]) -> String {
    match read(bytes) {
        Err(Error::Malformed { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

/// Returns the problem of a pickle with 8 floats.
fn problem_of(pickle: Pickle) -> String {
    problem(&archive(pickle.stop(), &[8]))
}

#[test]
fn tensors_are_views_of_their_storages() -> Result<()> {
    let pickle = Pickle::new().raw(b"}(");
    let pickle = pickle.text("whole").tensor("0", 12, 0, &[3, 4], &[4, 1]);
    let pickle = pickle.text("transposed").tensor("0", 12, 0, &[4, 3], &[1, 4]);
    let pickle = pickle.text("second").tensor("0", 12, 1, &[6], &[2]);
    let pickle = pickle.text("repeated").tensor("0", 12, 5, &[2, 3], &[0, 0]);
    let pickle = pickle.text("scalar").tensor("0", 12, 11, &[], &[]);
    let pickle = pickle.text("empty").tensor("0", 12, 12, &[0, 7], &[7, 1]);
    let read = read(&archive(pickle.raw(b"u").stop(), &[12]))?;
    let all = Tensor::arange(12, tch::kind::FLOAT_CPU).reshape([3, 4]);
    assert_eq!(read["whole"], all);
    assert_eq!(read["transposed"], all.transpose(0, 1));
    assert_eq!(read["second"], Tensor::from_slice(&[1f32, 3., 5., 7., 9., 11.]));
    assert_eq!(read["repeated"], Tensor::full([2, 3], 5, tch::kind::FLOAT_CPU));
    assert_eq!((read["scalar"].double_value(&[]), read["empty"].size()), (11.0, vec![0, 7]));
    assert_eq!(read["second"].data_ptr() as usize, read["whole"].data_ptr() as usize + 4, "the storage is shared");
    Ok(())
}

#[test]
fn every_kind_is_read_in_either_byte_order() -> Result<()> {
    for (class, kind, bytes, value) in [
        ("FloatStorage", Kind::Float, &2.5f32.to_le_bytes()[..], 2.5),
        ("DoubleStorage", Kind::Double, &2.5f64.to_le_bytes(), 2.5),
        ("HalfStorage", Kind::Half, &[0x00, 0x41], 2.5),
        ("BFloat16Storage", Kind::BFloat16, &[0x20, 0x40], 2.5),
        ("LongStorage", Kind::Int64, &(-3i64).to_le_bytes(), -3.0),
        ("IntStorage", Kind::Int, &(-3i32).to_le_bytes(), -3.0),
        ("ShortStorage", Kind::Int16, &(-3i16).to_le_bytes(), -3.0),
        ("CharStorage", Kind::Int8, &[0xfd], -3.0),
        ("ByteStorage", Kind::Uint8, &[200], 200.0),
        ("BoolStorage", Kind::Bool, &[1], 1.0),
    ] {
        let tensor = Pickle::new().raw(b"}").text("a").global("torch._utils", "_rebuild_tensor_v2");
        let tensor = tensor.raw(b"(").storage(class, "0", 1).int(0).ints(&[1]).ints(&[1]).raw(b"\x89}tRs").stop();
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        for (order, bytes) in [("little", bytes), ("big", &reversed)] {
            let records = [("data.pkl", tensor.as_slice()), ("byteorder", order.as_bytes()), ("data/0", bytes)];
            let read = read(&zip_of(&records))?;
            assert_eq!((read["a"].kind(), read["a"].double_value(&[0])), (kind, value), "{class}, {order}");
        }
        let records = [("data.pkl", tensor.as_slice()), ("byteorder", b"middle"), ("data/0", bytes)];
        assert!(problem(&zip_of(&records)).contains("neither little nor big"));
    }
    Ok(())
}

#[test]
fn tensor_of_bytes_has_a_kind_of_its_own() -> Result<()> {
    let tensor = Pickle::new().raw(b"}").text("a").global("torch._utils", "_rebuild_tensor_v3").raw(b"(");
    let tensor = tensor.storage("UntypedStorage", "0", 8).int(1).ints(&[1]).ints(&[1]).raw(b"\x89}");
    let read = read(&archive(tensor.clone().global("torch", "float32").raw(b"tRs").stop(), &[2]))?;
    assert_eq!(read["a"], Tensor::from_slice(&[1f32]));
    assert!(problem_of(tensor.clone().global("torch", "complex64").raw(b"tRs")).contains("without tensors"));
    assert!(problem_of(tensor.global("torch", "float64").raw(b"tRs")).contains("ends at number 1 of storage 0"));
    Ok(())
}

/// Builds a file in the layout of PyTorch before 1.6, with two storages of floats.
fn legacy(object: Vec<u8>, keys: [&str; 2], count: i64) -> Vec<u8> {
    let magic = Pickle::new().raw(&[0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]).stop();
    let machine = Pickle::new().raw(b"}").text("little_endian").raw(b"\x88s").stop();
    let keys = keys.iter().fold(Pickle::new().raw(b"]("), |pickle, key| pickle.text(key)).raw(b"e").stop();
    let storage = |first: f32| {
        let second = (first + 1.0).to_le_bytes();
        [&count.to_le_bytes()[..], &first.to_le_bytes(), if count == 1 { &[] } else { &second }].concat()
    };
    [magic, Pickle::new().int(1001).stop(), machine, object, keys, storage(1.0), storage(3.0)].concat()
}

#[test]
fn legacy_storages_follow_in_the_order_of_keys() -> Result<()> {
    let pickle = Pickle::new().raw(b"}(").text("a").tensor("7", 2, 0, &[2], &[1]);
    let object = pickle.text("b").tensor("8", 2, 1, &[1], &[1]).raw(b"u").stop();
    let read = read(&legacy(object.clone(), ["8", "7"], 2))?;
    assert_eq!((read["a"].double_value(&[0]), read["b"].double_value(&[0])), (3.0, 2.0));
    let whole = legacy(object.clone(), ["8", "7"], 2);
    for length in 2..whole.len() {
        problem(&whole[..length]);
    }
    assert!(problem(&legacy(object.clone(), ["8", "8"], 2)).contains("storage 7 is missing"));
    assert!(problem(&legacy(object.clone(), ["8", "9"], 2)).contains("no tensor uses storage 9"));
    assert!(problem(&legacy(object.clone(), ["7", "8"], 1)).contains("storage 7 has 4 bytes, and the pickle says 8"));
    for count in [-1, 1 << 40, i64::MAX] {
        assert!(problem(&legacy(object.clone(), ["7", "8"], count)).contains("cut off inside storage 7"));
    }
    Ok(())
}

#[test]
fn names_of_nested_dictionaries_are_joined() -> Result<()> {
    let one = |pickle: Pickle| pickle.tensor("0", 8, 0, &[1], &[1]);
    let flat =
        |pickle: Pickle| -> Result<Vec<String>> { Ok(read(&archive(pickle.stop(), &[8]))?.into_keys().collect()) };
    let nested = one(Pickle::new().raw(b"}(").text("image_proj").raw(b"}").text("latents"));
    assert_eq!(flat(one(nested.raw(b"s").text("b")).raw(b"u"))?, ["b", "image_proj.latents"]);
    let wrapped =
        one(Pickle::new().raw(b"}(").text("state_dict").raw(b"}").text("model_state_dict").raw(b"}").text("w"));
    assert_eq!(flat(one(wrapped.raw(b"ss").text("optimizer")).raw(b"u"))?, ["w"]);
    // Python 2 writes an ordered dictionary as a list of pairs, and texts in Latin-1.
    let pairs = Pickle::new().global("collections", "OrderedDict").raw(b"]](U\x02w\xe9");
    assert_eq!(flat(one(pairs).raw(b"ea\x85R"))?, ["wé"]);
    // A ParameterDict, made by NEWOBJ, has its tensors among its attributes.
    let parameters = Pickle::new().raw(b"}").text("string_to_param");
    let parameters =
        parameters.global("torch.nn.modules.container", "ParameterDict").raw(b")\x81}").text("_parameters");
    let parameters = one(parameters.raw(b"}").text("*").global("torch._utils", "_rebuild_parameter").raw(b"("));
    assert_eq!(flat(parameters.raw(b"\x88}tRssbs"))?, ["string_to_param.*"]);
    Ok(())
}

#[test]
fn objects_of_unknown_classes_are_skipped() -> Result<()> {
    let pickle = Pickle::new().raw(b"}(").text("epoch").int(7).text("name").text("gold");
    let pickle = pickle.global("lightning", "Callback").raw(b"}"); // a class as a key
    let pickle = pickle.text("first").global("ldm", "Scheduler").raw(b")R}").text("x").raw(b"K\x01sb");
    let pickle = pickle.text("second").global("ldm", "Scheduler").raw(b")\x81(K\x01K\x02u(K\x03e");
    let pickle = pickle.text("w").tensor("0", 8, 0, &[8], &[1]).raw(b"u");
    let file = stored(&archive(pickle.stop(), &[8]));
    let header = Header::open(file.path())?;
    assert_eq!(header.tensors.keys().collect::<Vec<_>>(), ["w"]);
    assert_eq!((&*header.metadata["epoch"], &*header.metadata["name"]), ("7", "gold"));
    assert_eq!((header.skipped["lightning.Callback"], header.skipped["ldm.Scheduler"]), (0, 2));
    let note = header.note().unwrap();
    assert!(
        note.ends_with("objects of 2 Python classes were skipped: ldm.Scheduler (2), lightning.Callback (0)"),
        "{note}"
    );
    Ok(())
}

#[test]
fn harmful_functions_are_refused_by_name() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("commands", "Popen"),
        ("importlib._bootstrap", "_gcd_import"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("torch", "serialization.os.system"),
        ("ldm", "__builtins__.exec"),
        ("builtins", "object.__init__.__globals__.pickle.loads"),
    ] {
        let full = format!("{module}.{name}");
        let by_stack = Pickle::new().text(module).text(name).raw(b"\x93)R");
        let by_object = Pickle::new().raw(format!("(i{module}\n{name}\n").as_bytes());
        for pickle in [Pickle::new().global(module, name), by_stack, by_object] {
            let problem = problem_of(pickle);
            assert!(problem.contains(&format!("the file calls {full}, which could run code")), "{problem}");
        }
    }
    for (module, name) in [("codecs", "x"), ("osmnx", "x"), ("__builtin__", "set"), ("ldm.os", "Ema"), ("a", "eval")] {
        assert!(problem_of(Pickle::new().global(module, name).raw(b")R")).contains("expected a dictionary"));
    }
}

#[test]
fn tensors_outside_their_storages_are_refused() {
    let of = |elements, offset, shape: &[i64], strides: &[i64]| {
        problem_of(Pickle::new().raw(b"}").text("a").tensor("0", elements, offset, shape, strides).raw(b"s"))
    };
    assert!(of(8, 0, &[9], &[1]).contains("ends at number 8 of storage 0, which has 8 numbers"));
    assert!(of(8, 1, &[2, 4], &[4, 1]).contains("ends at number 8 of storage 0"));
    assert!(of(8, 9, &[0], &[1]).contains("ends at number 8 of storage 0"));
    assert!(of(0, 0, &[], &[]).contains("storage 0"));
    assert!(of(8, 0, &[513], &[0]).contains("repeats the 8 numbers of storage 0 more than 64 times"));
    assert!(of(8, 0, &[1 << 40, 1 << 40, 1 << 40], &[0, 0, 0]).contains("more than 64 times"));
    assert!(of(8, 0, &[2, 2], &[(1 << 48) - 1, (1 << 48) - 1]).contains("ends at number 562949953421310 of"));
    for (offset, shape, strides) in [(-1, [1], [1]), (0, [-1], [1]), (0, [1], [-1]), (0, [1], [1 << 48])] {
        assert!(of(8, offset, &shape, &strides).contains("invalid arguments"));
    }
    assert!(of(8, 0, &[1, 1], &[1]).contains("invalid arguments"));
    assert!(of(8, 0, &[1; 9], &[1; 9]).contains("invalid arguments"));
    assert!(of(9, 0, &[1], &[1]).contains("the record data/0 has 32 bytes, and the pickle says 36"));
    assert!(of(-1, 0, &[1], &[1]).contains("storage 0 has -1 elements"));
    let elsewhere = Pickle::new().raw(b"}").text("a").tensor("../0", 8, 0, &[1], &[1]).raw(b"s");
    assert!(problem_of(elsewhere).contains("the record data/../0 is missing"));
}

#[test]
fn dictionaries_inside_each_other_end_somewhere() {
    let deep = |count: usize| {
        let start = (0..count).fold(Pickle::new(), |pickle, _| pickle.raw(b"}").text("a"));
        start.tensor("0", 8, 0, &[1], &[1]).raw(&vec![b's'; count])
    };
    assert!(read(&archive(deep(98).stop(), &[8])).is_ok());
    for count in [101, 10_000] {
        assert!(problem_of(deep(count)).contains("nests values more than 100 deep"));
    }
    assert!(problem_of(Pickle::new().raw(b")").raw(&[0x85; 10_000])).contains("more than 100 deep"));
    // A dictionary that contains itself, by the memo.
    let own = Pickle::new().raw(b"}q\0").text("a").raw(b"h\0s");
    assert!(problem_of(own).contains("contain each other too often"));
    let own = Pickle::new().raw(b"}q\0").text("module").raw(b"h\0s");
    assert!(problem_of(own).contains("contain each other too often"));
    // Each of 40 dictionaries contains the one before twice, which makes 2⁴⁰ names.
    let start = Pickle::new().raw(b"}").text("a").tensor("0", 8, 0, &[1], &[1]).raw(b"sq\0");
    let twice = |pickle: Pickle, _| pickle.raw(b"}(").text("a").raw(b"h\0").text("b").raw(b"h\0uq\0");
    assert!(problem_of((0..40).fold(start, twice)).contains("contain each other too often"));
}

#[test]
fn invalid_operations_are_named() {
    let of = |bytes: &[u8]| problem_of(Pickle::new().raw(bytes));
    assert!(of(b"\x96").contains("operation 0x96 at byte 2"));
    assert!(of(b"I1\n").contains("operation 0x49 at byte 2"));
    assert!(of(b"h\x05").contains("refers to value 5 at byte 2, which is not there"));
    for underflow in
        [&b""[..], b"s", b"}s", b"(N}0u", b"u", b"t", b"R", b"q\0", b"2", b"b", b"Q", b"N(0000", b"(s", b"\x93"]
    {
        assert!(of(underflow).contains("takes a value that is not there"), "{underflow:?}: {}", of(underflow));
    }
    assert!(of(b"}(Nu").contains("a key without a value"));
    assert!(of(b")Na").contains("appends to a value that is not a list"));
    assert!(of(b")NNs").contains("adds items to a value that is not a dictionary"));
    assert!(of(b"}(X\xff\xff\xff\xff").contains("cut off behind byte"));
    assert!(of(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").contains("cut off behind byte"));
    assert!(of(b"\x8b\xff\xff\xff\xff").contains("negative length"));
    assert!(of(b"NQ").contains("invalid reference to a storage"));
    assert!(problem_of(Pickle::default().raw(b"\x80\x06N")).contains("protocol 6"));
    let long = Pickle::new().raw(format!("c{}\nx\n", "a".repeat(5000)).as_bytes());
    assert!(problem_of(long).contains("a name of more than 256 bytes"));
    let many = Pickle::new().raw(&b"N0".repeat(1 << 22));
    assert!(problem_of(many).contains("more than 8388608 operations"));
}

#[test]
fn files_that_are_no_checkpoints_say_what_they_are() {
    assert!(problem_of(Pickle::new().raw(b"]")).contains("the file holds a list"));
    assert!(problem_of(Pickle::new().raw(b"}")).contains("a dictionary without tensors"));
    assert!(problem_of(Pickle::new().tensor("0", 8, 0, &[1], &[1])).contains("a tensor without a name"));
    assert!(problem_of(Pickle::new().global("ldm", "UNet").raw(b")\x81")).contains("such as a whole network"));
    assert!(problem_of(Pickle::new().raw(b"}M\x40\x01(NNts")).contains("is a hypernetwork"));
    assert!(problem(&Pickle::new().raw(b"}").stop()).contains("but not a checkpoint of PyTorch"));
    assert!(problem(&[&[0; 257][..], b"ustar", &[0; 250]].concat()).contains("a tar archive"));
    let pickle = Pickle::new().raw(b"}").stop();
    assert!(problem(&zip_of(&[("data.pkl", &pickle), ("constants.pkl", b")")])).contains("is a TorchScript program"));
    assert!(problem(&zip_of(&[("word/document.xml", b"")])).contains("has no folder with data.pkl"));
    assert!(
        problem(&zip_of(&[("data.pkl", &pickle), ("data.pkl", &pickle)]))
            .contains("several records named archive/data.pkl")
    );
}

#[test]
fn damaged_zip_files_are_errors() {
    let tensors = Pickle::new().raw(b"}(").text("a").tensor("0", 8, 0, &[8], &[1]);
    let pickle = tensors.text("b").tensor("1", 8, 0, &[8], &[1]).raw(b"u").stop();
    let whole = archive(pickle.clone(), &[8, 8]);
    assert!(read(&whole).is_ok());
    for length in 5..whole.len() {
        problem(&whole[..length]);
    }
    let places: Vec<usize> =
        whole.windows(4).enumerate().filter(|(_, bytes)| bytes == b"PK\x01\x02").map(|(at, _)| at).collect();
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        problem(&changed)
    };
    assert!(changed(places[1] + 10, &[8]).contains("archive/data/0 of the zip file is compressed"));
    assert!(changed(places[1] + 8, &[1]).contains("compressed or encrypted"));
    assert!(changed(places[1] + 24, &[31]).contains("compressed"));
    assert!(changed(places[1] + 42, &[255, 255, 255, 255]).contains("directory of the zip file is damaged"));
    assert!(changed(places[1] + 42, &[1, 0, 0, 0]).contains("directory of the zip file is damaged"));
    let first: [u8; 4] = whole[places[1] + 42..places[1] + 46].try_into().unwrap();
    // Both storages are the same record, which is harmless; a record that begins inside another is not.
    let mut same = whole.clone();
    same[places[2] + 42..places[2] + 46].copy_from_slice(&first);
    assert!(read(&same).is_ok());
    let contents = [&b"PK\x03\x04"[..], &[0; 90]].concat();
    let mut inside = zip_of(&[("data.pkl", &pickle), ("data/0", &contents), ("data/1", &[0; 32])]);
    let start = inside.windows(4).enumerate().filter(|(_, bytes)| bytes == b"PK\x03\x04").nth(2).unwrap().0 as u32;
    let entry = inside.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    inside[entry + 42..entry + 46].copy_from_slice(&start.to_le_bytes());
    assert!(problem(&inside).contains("two storages of the file overlap"));
}

#[test]
fn large_zip_files_have_64_bit_numbers() -> Result<()> {
    let plain = checkpoint(&["a"]);
    let end = plain.len() - 22;
    let field = |at: usize| u64::from(u32::from_le_bytes(plain[end + at..end + at + 4].try_into().unwrap()));
    let (size, start) = (field(12), field(16) as usize);
    // Every number of the directory moves into an extra field.
    let (mut directory, mut at) = (Vec::new(), start);
    while at < end {
        let name = usize::from(u16::from_le_bytes([plain[at + 28], plain[at + 29]]));
        let number = |from: usize| u64::from(u32::from_le_bytes(plain[from..from + 4].try_into().unwrap()));
        let large = [number(at + 24), number(at + 20), number(at + 42)].map(u64::to_le_bytes).concat();
        let mut entry = plain[at..at + 46].to_vec();
        entry[20..28].fill(0xff);
        entry[42..46].fill(0xff);
        entry[30] = 4 + 4 + 24;
        directory.extend([&entry[..], &plain[at + 46..at + 46 + name], b"FB\0\0\x01\0\x18\0", &large].concat());
        at += 46 + name;
    }
    assert_eq!(at as u64, start as u64 + size);
    let mut record = [&b"PK\x06\x06"[..], &[0; 36]].concat();
    record.extend((directory.len() as u64).to_le_bytes().into_iter().chain((start as u64).to_le_bytes()));
    let place = ((start + directory.len()) as u64).to_le_bytes();
    let locator = [&b"PK\x06\x07\0\0\0\0"[..], &place, &[1, 0, 0, 0]].concat();
    let last = [&b"PK\x05\x06"[..], &[0; 4], &[0xff; 12], &[0; 2]].concat();
    let large = [&plain[..start], &directory, &record, &locator, &last].concat();
    assert_eq!(read(&large)?["a"], read(&plain)?["a"]);
    for length in 5..large.len() {
        problem(&large[..length]);
    }
    Ok(())
}
