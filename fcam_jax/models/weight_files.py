"""Weight files as tensors by name: safetensors, PyTorch's .pth, Keras' .h5. Nothing in a file is executed.

The first bytes of a file tell its format, not its name. Names and layouts are left as they are stored; whose they are
and what they fit is for `import_weights` to find out.
"""

import functools
import hashlib
import itertools
import pathlib
import zipfile
from collections.abc import Callable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from fcam_jax.errors import InputError
from fcam_jax.models import torch_files
from fcam_jax.runtime.files import WEIGHTS, open_regular, reason
from fcam_jax.runtime.text import shorten

Weights = Mapping[str, np.ndarray]

_LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors
_NOT_WEIGHTS = "not a weight file (safetensors, PyTorch .pth/.pt, Keras .h5)"
_MOST_TENSORS, _DEEPEST = 10_000, 10  # with the groups, and the groups in groups, of an HDF5 file
_SHOWN = 200  # characters of a parser's message that are repeated
_KERAS_3 = (
    "written by Keras 3 without the names of its tensors: save it in the format of Keras 2 (`model.save('NAME.h5')`) "
    "or convert it to safetensors"
)
_TAR = (
    "PyTorch's tar format, given up in 2017: take torchvision's present file of the same weights, or `torch.save` it "
    "again in PyTorch"
)


def read_weights(path: str | pathlib.Path) -> tuple[Weights, str]:
    """Read a weight file.

    bfloat16 comes as `ml_dtypes.bfloat16`. Where a checkpoint of PyTorch wraps its state dict, names begin with its
    keys, as `state_dict.conv1.weight`. Keras' tensors are called `layer/leaf`.

    Args:
      path: the file.

    Returns:
      The tensors by name, of the type that is stored (they may be read-only and share memory), and the file's sha256
      in hexadecimal.

    Raises:
      InputError: the file cannot be opened, is of another format, damaged, or would have to be executed to be read.
    """
    path = pathlib.Path(path)
    try:
        digest, head = _open(path)
        kind, read = _format(head)
        weights = _guarded(kind, read, path)
        if not weights:
            raise InputError("it holds no tensors")
        if len(weights) > _MOST_TENSORS:
            raise InputError(f"it holds {len(weights)} tensors, more than any network here with its optimiser")
    except InputError as error:
        raise InputError(f"weights {path}: {error}") from error
    return weights, digest


def metadata_of(path: str | pathlib.Path) -> Mapping[str, str]:
    """What a safetensors file says of itself; nothing where it is of another format, or a folder."""
    try:
        with open_regular(path, WEIGHTS), safetensors.safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return {}


def _open(path: pathlib.Path) -> tuple[str, bytes]:
    """The file's sha256 and first bytes."""
    try:
        with open_regular(path, WEIGHTS) as file:
            head = file.read(512)
            _format(head)  # before all of it is read
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest(), head
    except OSError as error:
        raise InputError(f"cannot be read: {reason(error)}") from error


def _format(head: bytes) -> tuple[str, Callable[[pathlib.Path], Weights]]:
    """What the format is called, and its reader."""
    if not head:
        raise InputError("the file is empty (0 bytes)")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5", _read_hdf5
    if head.startswith(b"PK\x03\x04"):
        return "PyTorch", functools.partial(_read_torch, _read_zip)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER:
        return "safetensors", safetensors.numpy.load_file
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):  # a pickle and its protocol
        return "PyTorch", functools.partial(_read_torch, torch_files.read_stream)
    if head.startswith(b"version https://git-lfs"):
        raise InputError("a pointer of Git LFS, not the file itself: fetch it by `git lfs pull`")
    raise InputError(_TAR if head[257:262] == b"ustar" else _NOT_WEIGHTS)


def _guarded(kind: str, read: Callable[[pathlib.Path], Weights], path: pathlib.Path) -> Weights:
    try:
        return read(path)
    except InputError:
        raise
    except Exception as error:  # parsers raise what they stumble over in a damaged file, there is no closed list
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"truncated or damaged {kind} file ({detail[:_SHOWN]})") from error


def _read_torch(read: Callable[[pathlib.Path], Weights], path: pathlib.Path) -> Weights:
    """A state dict, by PyTorch where our reader does not know what is in it."""
    try:
        return read(path)
    except torch_files.UnsupportedError as unsupported:
        try:
            import torch
        except ImportError as error:
            raise InputError(f"{unsupported}; reading it needs PyTorch: pip install torch") from error
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)  # executes nothing either
        except Exception as error:  # as everywhere here: what a damaged file raises has no closed list
            raise InputError(f"{unsupported}; PyTorch refuses it too") from error
        tensors = torch_files.named_tensors(found, (torch.Tensor,))
        return {name: tensor.to_dense().float().numpy() for name, tensor in tensors.items()}


def _read_zip(path: pathlib.Path) -> Weights:
    with zipfile.ZipFile(path) as archive:
        if "model.weights.h5" in archive.namelist():
            raise InputError(_KERAS_3)
    return torch_files.read_archive(path)


def _read_hdf5(path: pathlib.Path) -> Weights:
    """Datasets by the last two parts of their path, which Keras nests: `conv1/conv1/kernel:0` is `conv1/kernel`."""
    try:
        import h5py
    except ImportError as error:
        raise InputError("HDF5 file; reading it needs h5py: pip install h5py") from error
    found: dict[str, h5py.Dataset] = {}
    visited = itertools.count()

    def collect(name: str, entry: object) -> bool | None:
        if next(visited) > _MOST_TENSORS or name.count("/") > _DEEPEST:
            return True  # ends the visit
        if isinstance(entry, h5py.Dataset):
            found[name] = entry
        return None

    with h5py.File(path, "r") as file:
        if file.visititems(collect):  # follows no links to other files
            raise InputError("it has more groups and tensors, or deeper ones, than any network of Keras")
        saved_model = {name: dataset for name, dataset in found.items() if name.startswith("model_weights/")}
        return _datasets(saved_model or found, path.stat().st_size)


def _datasets(found: Mapping[str, "h5py.Dataset"], file_size: int) -> Weights:  # noqa: F821
    weights: dict[str, np.ndarray] = {}
    if sum(dataset.nbytes for dataset in found.values()) > file_size:
        raise InputError("its tensors are larger than the file: compressed or damaged")
    for path, dataset in found.items():
        parts = path.split("/")[-2:]
        name = "/".join(parts).removesuffix(":0")
        if parts[0] == "vars" and parts[-1].isdigit():
            raise InputError(_KERAS_3)
        if name in weights:
            raise InputError(f"it holds two tensors {shorten(name, _SHOWN)!r}")
        if dataset.shape is None or dataset.dtype.kind not in "fiub" or dataset.external or dataset.is_virtual:
            raise InputError(f"{shorten(path, _SHOWN)!r} is not an array of numbers in the file itself")
        weights[name] = np.asarray(dataset)
    return weights
