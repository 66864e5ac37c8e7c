//! [`Global`]: a Python class or function that a pickle names.

use super::flaw::Checked;
use crate::wording::excerpt;
use std::rc::Rc;
use tch::Kind;

/// A Python class or function that a pickle names. None is run: each stands for the values that it would make.
#[derive(Clone, Debug)]
pub(super) enum Global {
    /// `dict` and `OrderedDict`.
    Dictionary,
    /// `ParameterDict`, whose tensors are in its attributes.
    ParameterDict,
    /// Classes whose objects are their first argument: `list`, `tuple`, `torch.Size`.
    Sequence,
    /// Functions that return a tensor with the numbers of a storage, in the storage's kind.
    Tensor,
    /// The function that returns a tensor with the numbers of a storage, in a kind of its own.
    TensorOfKind,
    /// Functions that return the tensor that is their first argument.
    Parameter,
    /// A class of storages; `None` for storages of bytes, which have no kind.
    Storage(Option<Kind>),
    /// A kind of numbers, such as `torch.float16`.
    Kind(Kind),
    /// Built-in types whose values are not read, such as sets and bytes.
    Plain,
    /// Any other class or function, by its full name.
    Other(Rc<str>),
}

/// Modules whose functions run programs, read files or import code.
const HOSTILE_MODULES: [&str; 26] = [
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "commands",
    "shutil",
    "socket",
    "runpy",
    "importlib",
    "imp",
    "zipimport",
    "webbrowser",
    "ctypes",
    "code",
    "pty",
    "pip",
    "marshal",
    "pickle",
    "cPickle",
    "_pickle",
    "bdb",
    "pdb",
    "profile",
    "cProfile",
    "timeit",
];

/// Longest name of a class or function with its module, in bytes.
const LONGEST_NAME: usize = 256;

/// Names of the module of built-in functions, in Python 3 and 2.
const BUILTINS: [&str; 2] = ["builtins", "__builtin__"];

/// Built-in functions that run code, read files or change objects.
const HOSTILE_BUILTINS: [&str; 21] = [
    "eval",
    "exec",
    "execfile",
    "compile",
    "open",
    "file",
    "input",
    "raw_input",
    "getattr",
    "setattr",
    "delattr",
    "__import__",
    "apply",
    "reload",
    "globals",
    "locals",
    "vars",
    "breakpoint",
    "exit",
    "quit",
    "help",
];

impl Global {
    /// Returns the meaning of a global.
    ///
    /// # Errors
    /// A sentence with the name, if the global could do harm when another program opens the file, or has a long name.
    pub(super) fn of(module: &str, name: &str) -> Checked<Self> {
        if module.len() + name.len() > LONGEST_NAME {
            return Err(
                format!("the pickle has a name of more than {LONGEST_NAME} bytes; download the file again").into()
            );
        }
        if is_hostile(module, name) {
            return Err(format!(
                "the file calls {}, which could run code; nothing was run here, but another program may run it; delete \
                 the file, and take the weights from a source that you trust, best as safetensors",
                excerpt(&format!("{module}.{name}"), 100)
            )
            .into());
        }
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::Dictionary,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::TensorOfKind,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Self::Parameter,
            ("torch", "Size") => Self::Sequence,
            ("torch.nn.modules.container", "ParameterDict") => Self::ParameterDict,
            ("_codecs", "encode") => Self::Plain,
            ("torch" | "torch.storage", "UntypedStorage" | "_UntypedStorage") => Self::Storage(None),
            ("torch" | "torch.cuda" | "torch.storage", name) => match (storage(name), kind(name)) {
                (Some(kind), _) => Self::Storage(Some(kind)),
                (None, Some(kind)) if module == "torch" => Self::Kind(kind),
                _ => Self::other(module, name),
            },
            (module, "dict") if BUILTINS.contains(&module) => Self::Dictionary,
            (module, "list" | "tuple") if BUILTINS.contains(&module) => Self::Sequence,
            (
                module,
                "set" | "frozenset" | "bytes" | "bytearray" | "str" | "unicode" | "int" | "long" | "float" | "complex"
                | "bool" | "object" | "range" | "xrange" | "slice",
            ) if BUILTINS.contains(&module) => Self::Plain,
            _ => Self::other(module, name),
        })
    }

    fn other(module: &str, name: &str) -> Self {
        Self::Other(format!("{module}.{name}").into())
    }
}

/// Returns true if a global could run code, read files or import code. A name of several parts is looked up from module
/// to module, so its first parts count as modules too.
fn is_hostile(module: &str, name: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    let parts: Vec<&str> = name.split('.').collect();
    let (last, before) = parts.split_last().unwrap_or((&name, &[]));
    let is_builtin =
        BUILTINS.contains(&top) || before.iter().any(|part| BUILTINS.contains(part) || *part == "__builtins__");
    HOSTILE_MODULES.contains(&top)
        || before.iter().any(|part| HOSTILE_MODULES.contains(part))
        || (is_builtin && HOSTILE_BUILTINS.contains(last))
}

/// Returns the kind of the numbers in a class of storages.
fn storage(class: &str) -> Option<Kind> {
    Some(match class {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}

/// Returns the kind that PyTorch calls `name`.
fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "float32" | "float" => Kind::Float,
        "float64" | "double" => Kind::Double,
        "float16" | "half" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "float8_e4m3fn" => Kind::Float8e4m3fn,
        "float8_e5m2" => Kind::Float8e5m2,
        "int64" | "long" => Kind::Int64,
        "int32" | "int" => Kind::Int,
        "int16" | "short" => Kind::Int16,
        "int8" => Kind::Int8,
        "uint8" => Kind::Uint8,
        "bool" => Kind::Bool,
        _ => return None,
    })
}
