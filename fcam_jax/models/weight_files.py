"""Weight files as tensors by name: safetensors, PyTorch's .pth, Keras' .h5. Nothing in a file is executed.

The first bytes of a file tell its format, not its name. Names and layouts are left as they are stored; whose they are
and what they fit is for `import_weights` to find out.
"""

import functools
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from fcam_jax.component import at_key
from fcam_jax.errors import InputError
from fcam_jax.models import torch_files
from fcam_jax.runtime.files import WEIGHTS, open_regular, reason
from fcam_jax.runtime.text import shorten

Weights = Mapping[str, np.ndarray]

_LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors
_NOT_WEIGHTS = "not a weight file (safetensors, PyTorch .pth/.pt, Keras .h5)"
_MOST_TENSORS, _DEEPEST = 10_000, 10  # with the groups, and the groups in groups, of an HDF5 file
_SHOWN = 200  # characters of a parser's message that are repeated
_TAR = "PyTorch's tar format, given up in 2017: `torch.save` it again, or take torchvision's present file"


def read_weights(path: str | pathlib.Path) -> tuple[Weights, str]:
    """Read a weight file: its tensors by name, of the type that is stored, and its sha256 in hexadecimal.

    Tensors may be read-only and share memory; bfloat16 comes as `ml_dtypes.bfloat16`. Where a checkpoint of PyTorch
    wraps its state dict, names begin with its keys, as `state_dict.conv1.weight`. Keras' are called `layer/leaf`.

    Raises:
      InputError: the file cannot be opened, is of another format, damaged, or would have to be executed to be read.
    """
    path = pathlib.Path(path)
    with at_key(f"weights {path}: "):
        try:
            with open_regular(path, WEIGHTS) as file:
                kind, read = _format(file.read(512))  # before all of it is read
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"cannot be read: {reason(error)}") from error
        try:
            weights = read(path)
        except InputError:
            raise
        except Exception as error:  # parsers raise what they stumble over in a damaged file, there is no closed list
            detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"truncated or damaged {kind} file ({detail[:_SHOWN]})") from error
        if not weights:
            raise InputError("it holds no tensors")
        if len(weights) > _MOST_TENSORS:
            raise InputError(f"it holds {len(weights)} tensors, more than any network here with its optimiser")
    return weights, digest


def metadata_of(path: str | pathlib.Path) -> Mapping[str, str]:
    """What a safetensors file says of itself; nothing where it is of another format, or a folder."""
    try:
        with open_regular(path, WEIGHTS), safetensors.safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return {}


def _format(head: bytes) -> tuple[str, Callable[[pathlib.Path], Weights]]:
    """What the format is called, and its reader."""
    if not head:
        raise InputError("the file is empty (0 bytes)")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5", _read_hdf5
    if head.startswith(b"PK\x03\x04"):
        return "PyTorch", functools.partial(_read_torch, torch_files.read_archive)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER:
        return "safetensors", safetensors.numpy.load_file
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):  # a pickle and its protocol
        return "PyTorch", functools.partial(_read_torch, torch_files.read_stream)
    if head.startswith(b"version https://git-lfs"):
        raise InputError("a pointer of Git LFS, not the file itself: fetch it by `git lfs pull`")
    raise InputError(_TAR if head[257:262] == b"ustar" else _NOT_WEIGHTS)


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

    weights: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:
        if file.visititems(collect):  # follows no links to other files
            raise InputError("it has more groups and tensors, or deeper ones, than any network of Keras")
        found = {name: one for name, one in found.items() if name.startswith("model_weights/")} or found
        if sum(dataset.nbytes for dataset in found.values()) > path.stat().st_size:
            raise InputError("its tensors are larger than the file: compressed or damaged")
        for place, dataset in found.items():
            parts = place.split("/")[-2:]
            name = "/".join(parts).removesuffix(":0")
            if parts[0] == "vars" and parts[-1].isdigit():
                raise InputError(torch_files.KERAS_3)
            if name in weights:
                raise InputError(f"it holds two tensors {shorten(name, _SHOWN)!r}")
            if dataset.shape is None or dataset.dtype.kind not in "fiub" or dataset.external or dataset.is_virtual:
                raise InputError(f"{shorten(place, _SHOWN)!r} is not an array of numbers in the file itself")
            weights[name] = np.asarray(dataset)
    return weights
