"""State dicts from PyTorch's files, without PyTorch and without running anything from them.

A .pth file is a pickle, and a pickle is a program: unpickling can execute whatever its author liked. Here its opcodes
are only read. They can put together dicts, lists, tuples, strings, numbers and tensors; nothing that the file names is
imported or called, and names that a state dict does not need are refused.

`torch.save` has written two containers: since version 1.6 a zip archive with an entry for each storage, before that a
stream of pickles followed by the storages. What is wrong with a file is said without its path, which the caller adds.
"""

import functools
import io
import math
import pathlib
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from fcam_jax.errors import InputError

_DTYPES = {
    f"torch.{name}Storage": np.dtype(dtype)
    for name, dtype in [
        *[("Double", "<f8"), ("Float", "<f4"), ("Half", "<f2"), ("BFloat16", ml_dtypes.bfloat16), ("Bool", "?")],
        *[("Long", "<i8"), ("Int", "<i4"), ("Short", "<i2"), ("Char", "i1"), ("Byte", "u1")],
    ]
}
# What training programs save beside weights, and what it is made of. It is passed over: nothing of it is imported.
_INERT = {
    f"{module}.{name}"
    for modules, names in (
        ("argparse", "Namespace"),
        ("collections", "Counter defaultdict"),
        ("datetime", "datetime"),
        ("_codecs", "encode"),
        ("builtins __builtin__", "set frozenset slice complex"),
        ("pathlib", "Path PosixPath WindowsPath PurePosixPath PureWindowsPath"),
        ("numpy", "dtype ndarray"),
        ("numpy.core.multiarray numpy._core.multiarray", "scalar _reconstruct"),
        ("pytorch_lightning.utilities.parsing lightning.pytorch.utilities.parsing", "AttributeDict"),
        ("lightning_fabric.utilities.data lightning.fabric.utilities.data", "AttributeDict"),
        ("torch", "device float32 float16 bfloat16 float64 int64"),
    )
    for module in modules.split()
    for name in names.split()
}
# How many values an opcode takes from the stack: all from the last mark on, or so many.
_OF_MARK = {"TUPLE", "APPENDS", "SETITEMS", "ADDITEMS"}
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "BUILD": 1, "BINPERSID": 1}
_TAKES |= {"STACK_GLOBAL": 2, "REDUCE": 2, "NEWOBJ": 2}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_LITERALS |= {"BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"}
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_LONGEST_PICKLE = 1 << 22  # bytes; names and shapes take some 200 per tensor, and in memory up to 100 times that
_MOST_STEPS = 1 << 19  # opcodes of a pickle; some 40 per tensor
_MOST_TENSORS = 10_000
_DEEPEST = 4  # dicts in dicts around the tensors
_LONGEST_NAME = 200
_MOST_SHARING = 10  # times the file's size that its tensors may take together
_MOST_AXES = 64
_SHOWN = 60  # characters of the file's own words that a message repeats
_NO_PICKLE = "a zip archive without PyTorch's data.pkl: not a weight file (NumPy's .npz: save it as safetensors)"
KERAS_3 = "written by Keras 3 without its tensors' names: save it as Keras 2 does, by `model.save('NAME.h5')`"
_SAVE_ALONE = "in the program that made it, save `model.state_dict()` alone"


class UnsupportedError(InputError):
    """What PyTorch itself reads without executing anything, and this reader does not know."""


class _Global(NamedTuple):
    name: str  # of a function or class


class _Storage(NamedTuple):  # the flat data of one or more tensors, still in the file
    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):  # its storage and, in elements, the place of its values there
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Inert:
    """An object of `_INERT`, of which nothing is kept."""

    def update(self, _content: object) -> None:
        """Take items, as dicts and lists do."""

    append = extend = update


def read_archive(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors by name from a zip archive.

    Raises:
      UnsupportedError: it holds what PyTorch has to read.
      InputError: it holds no state dict, or names what a state dict does not need.
      Exception: it is damaged; there is no closed list of what the parsers raise.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        sizes = {entry.filename: entry.file_size for entry in entries}
        root = next((name.removesuffix("data.pkl") for name in sizes if name.endswith("/data.pkl")), None)
        if root is None:
            raise InputError(KERAS_3 if "model.weights.h5" in sizes else _NO_PICKLE)
        if any(name.startswith((f"{root}code/", f"{root}constants.pkl")) for name in sizes):
            raise InputError(f"a TorchScript program, not a state dict: {_SAVE_ALONE}")
        stored = sum(sizes.values()) <= path.stat().st_size
        if not stored or any(entry.compress_type or entry.compress_size != entry.file_size for entry in entries):
            raise InputError("its entries do not have the size of their data: compressed or damaged")
        if f"{root}byteorder" in sizes and archive.read(f"{root}byteorder") != b"little":
            raise UnsupportedError("written on a big-endian machine")
        if sizes[f"{root}data.pkl"] > _LONGEST_PICKLE:
            raise InputError(f"its pickle is longer than any state dict's: {_SAVE_ALONE}")
        found = _interpret(io.BytesIO(archive.read(f"{root}data.pkl")), {})
        return _arrays(found, lambda key: archive.read(f"{root}data/{key}"), path)


def read_stream(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors by name from a stream of pickles and storages; raises what `read_archive` raises."""
    dtypes: dict[str, np.dtype] = {}
    places = {}
    with path.open("rb") as file:
        pickles = io.BytesIO(file.read(_LONGEST_PICKLE))
        if _interpret(pickles, {}) != _STREAM_MAGIC:
            raise InputError(f"a pickle that `torch.save` did not write: {_SAVE_ALONE}")
        _version, _machine, found, keys = (_interpret(pickles, dtypes) for _ in range(4))
        file.seek(pickles.tell())
        for key in map(_checked_key, keys):
            length = int.from_bytes(file.read(8), "little") * dtypes[key].itemsize
            places[key] = file.tell(), length
            file.seek(length, io.SEEK_CUR)
        if file.tell() > path.stat().st_size:
            raise EOFError("the data end early")

        def load(key: str) -> bytes:
            offset, length = places[key]
            file.seek(offset)
            return file.read(length)

        return _arrays(found, load, path)


def _interpret(stream: io.BytesIO, dtypes: dict[str, np.dtype]) -> Any:
    """The value that the pickle at the stream's position describes; the stream is left behind it.

    The stream is in memory, so that no length in the file can ask for more than there is. `dtypes` receives the type of
    every storage, by its key.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks that wait under the open marks
    memo: dict[Any, Any] = {}
    items: list[Any]
    argument: Any
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if step > _MOST_STEPS:
            raise InputError(f"its pickle has more steps than any state dict's: {_SAVE_ALONE}")
        if opcode.name in _OF_MARK:
            items, stack = stack, below.pop()
        elif count := _TAKES.get(opcode.name, 0):
            items = [stack.pop() for _ in range(count)][::-1]
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "NONE" | "NEWTRUE" | "NEWFALSE" as name:
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_SET" as name:
                stack.append({"DICT": dict, "LIST": list, "TUPLE": tuple, "SET": _Inert}[name[6:]]())
            case name if name in _LITERALS:
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(items))
            case "APPEND" | "APPENDS":
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                stack[-1].update(_dict(list(zip(items[::2], items[1::2], strict=True))))
            case "BUILD" | "ADDITEMS":  # attributes, such as `_metadata` of an OrderedDict; a set is passed over
                pass
            case "GLOBAL" | "INST":
                stack.append(_permitted(argument.replace(" ", "."), stack))
            case "STACK_GLOBAL":
                stack.append(_permitted(".".join(items), stack))
            case "BINPERSID":
                stack.append(_storage(*items[0]))
                dtypes.setdefault(stack[-1].key, stack[-1].dtype)
            case "REDUCE" | "NEWOBJ":
                called, arguments = items
                stack.append(_Inert() if called.name in _INERT else _CALLS[called.name](*arguments))
            case name:
                raise InputError(f"its pickle uses {name}, which no state dict needs: refused; {_SAVE_ALONE}")


def _permitted(name: str, stack: list[Any]) -> _Global:
    if name in _DTYPES or name in _CALLS or name in _INERT:
        return _Global(name)
    # A pickled module names its class first or, in a stream, after the word that announces its source text.
    if name.rpartition(".")[2][:1].isupper() and (not stack or stack[-1] == "module"):
        what = f"it holds a whole module ({name[:_SHOWN]!r}), not a state dict"
    elif name.startswith("torch."):
        raise UnsupportedError(f"it holds tensors of an uncommon kind ({name[:_SHOWN]!r})")
    else:
        what = f"it names {name[:_SHOWN]!r}, which no state dict needs"
    raise InputError(f"{what}: refused, because this could execute code, with PyTorch installed too; {_SAVE_ALONE}")


def _checked_key(key: Any) -> Any:
    """The key; others than strings and small integers can be made to take for ever to hash or compare."""
    if isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 32):
        return key
    raise TypeError("a key is neither a string nor a small integer")


def _dict(pairs: list[Any] | None = None) -> dict[Any, Any]:
    pairs = pairs or []
    made = {_checked_key(key): value for key, value in pairs}
    pairs.clear()  # one list in the file makes one dict, not any number of large ones
    return made


def _storage(kind: str, dtype: _Global, key: str, device: str, count: int, view: object = None) -> _Storage:
    if kind != "storage" or view is not None or not isinstance(key, str):
        raise ValueError("a reference to something else than a storage")
    return _Storage(key, _DTYPES[dtype.name])


def _tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, *_gradient: object) -> _Tensor:
    if not (isinstance(storage, _Storage) and isinstance(size, tuple) and len(size) == len(stride) <= _MOST_AXES):
        raise ValueError("a tensor without a storage or a shape")
    if not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)):
        raise ValueError("a tensor of impossible shape")
    return _Tensor(storage, offset, size, stride)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dict,
    "torch.Size": lambda size: size,
    "torch._utils._rebuild_tensor": _tensor,  # before PyTorch 0.4; torchvision's VGG16 is of that age
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_gradient: tensor,
}


def _arrays(found: Any, load: Callable[[str], bytes], path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict as contiguous arrays; `load` gives the data of a storage."""
    tensors = named_tensors(found)
    total = sum(math.prod(tensor.size) * tensor.storage.dtype.itemsize for tensor in tensors.values())
    if total > _MOST_SHARING * path.stat().st_size:
        raise InputError("its tensors are far larger than the file: damaged")
    load = functools.cache(load)
    return {name: _array(tensor, load(tensor.storage.key)) for name, tensor in tensors.items()}


def named_tensors(found: Any, kinds: tuple[type, ...] = (_Tensor,)) -> dict[str, Any]:
    """The tensors of what `torch.save` was given, by the keys of all dicts around them: "state_dict.conv1.weight".

    What has no name, as an optimiser's state has none, and what is no tensor are left out.

    Raises:
      InputError: there are none, or too many.
    """
    tensors: dict[str, Any] = {}
    seen = set()  # one dict may be there any number of times

    def collect(entries: dict[Any, Any], prefix: str, depth: int) -> None:
        seen.add(id(entries))
        for name, value in entries.items():
            if not isinstance(name, str) or len(name) > _LONGEST_NAME:
                continue
            if isinstance(value, kinds):
                if len(tensors) > _MOST_TENSORS:
                    raise InputError(f"it holds more tensors than any network with its optimiser: {_SAVE_ALONE}")
                tensors[prefix + name] = value
            elif isinstance(value, dict) and depth < _DEEPEST and id(value) not in seen:
                collect(value, f"{prefix}{name}.", depth + 1)

    if isinstance(found, dict):
        collect(found, "", 1)
    if not tensors:
        raise InputError(f"it holds no tensors by name: {_SAVE_ALONE}")
    return tensors


def _array(tensor: _Tensor, data: bytes) -> np.ndarray:
    storage, offset, size, stride = tensor
    flat = np.frombuffer(data, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count: int = math.prod(size)
    if count > flat.size or (count and last >= flat.size):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [step * flat.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
    return np.asarray(view, order="C")
