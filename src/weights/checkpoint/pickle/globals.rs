//! The names of Python objects that a pickle may use.

use crate::weights::StoredType;

/// Python modules that a file names only to do harm.
const HARMFUL: [&str; 20] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "builtins",
    "__builtin__",
    "importlib",
    "runpy",
    "shutil",
    "socket",
    "webbrowser",
    "pty",
    "ctypes",
    "pickle",
    "code",
    "commands",
    "platform",
    "asyncio",
    "multiprocessing",
];

/// Functions and classes of those modules that are plain data all the same.
const HARMLESS: [&str; 14] = [
    "object",
    "set",
    "frozenset",
    "list",
    "dict",
    "tuple",
    "int",
    "float",
    "bool",
    "str",
    "bytes",
    "bytearray",
    "complex",
    "slice",
];

/// The names a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(StoredType),
    /// Plain values beside the tensors, of no use here: `torch.Size`, `torch.device`, a dtype, and
    /// every class that is not known.
    Inert,
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Option<Global> {
        let root = module.split('.').next().unwrap_or_default();
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "HalfStorage") => Global::Storage(StoredType::F16),
            ("torch", "BFloat16Storage") => Global::Storage(StoredType::BF16),
            ("torch", "FloatStorage") => Global::Storage(StoredType::F32),
            ("torch", "DoubleStorage") => Global::Storage(StoredType::F64),
            ("torch", "LongStorage") => Global::Storage(StoredType::I64),
            ("torch", "IntStorage") => Global::Storage(StoredType::I32),
            ("torch", "ShortStorage") => Global::Storage(StoredType::I16),
            ("torch", "ByteStorage") => Global::Storage(StoredType::U8),
            ("torch", "BoolStorage") => Global::Storage(StoredType::Bool),
            ("torch", "CharStorage") => Global::Storage(StoredType::Other),
            (
                "torch",
                "Size" | "device" | "float16" | "bfloat16" | "float32" | "float64" | "int64",
            ) => Global::Inert,
            // Functions of PyTorch that read files or run code.
            ("torch", "load") => return None,
            ("torch", name) if name.ends_with("Storage") => Global::Storage(StoredType::Other),
            (_, name) if HARMFUL.contains(&root) && !HARMLESS.contains(&name) => return None,
            _ => Global::Inert,
        })
    }
}
