"""Weights by one name: `timm:NAME`, `torchvision:NAME` or `hub:ORG/REPO[:FILE]`, as files in the caches of those who
publish them; what is not there yet is downloaded.

Of a repository of Hugging Face, as timm's are, `@REVISION` behind its name is a branch, tag or commit.
"""

import contextlib
import dataclasses
import difflib
import functools
import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from fcam_jax.component import at_key
from fcam_jax.errors import InputError, extra
from fcam_jax.models.encoder import Encoder
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.pretrained import Pretrained, published
from fcam_jax.runtime import hosts
from fcam_jax.runtime.download import fetch
from fcam_jax.runtime.files import file_digest
from fcam_jax.runtime.text import first_line, listed

FORMS = "timm:NAME, torchvision:NAME or hub:ORG/REPO[:FILE]"
_TORCH = "https://download.pytorch.org/models"
_OFFLINE = "HF_HUB_OFFLINE"  # forbids Hugging Face's library, and us, to use the network
_FILE = "model.safetensors"  # as timm and most others call it
_ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".h5")


@dataclasses.dataclass(frozen=True)
class Download:
    """Weights that were asked for by a name, for the record of a run."""

    name: str
    url: str  # where they come from; in a repository, at its commit
    path: str  # where they are on this machine
    size: int  # of the file, in bytes
    sha256: str  # of the file
    mean: tuple[float, ...] = ()  # of the images that they were trained on, RGB in [0, 255]; none: that is not said
    std: tuple[float, ...] = ()


def located(given: str | os.PathLike[str]) -> pathlib.Path:
    """The file of weights that are given by a name, or the path that is given; raises as `download_of`."""
    found = download_of(given)
    return pathlib.Path(given if found is None else found.path)


def download_of(given: str | os.PathLike[str]) -> Download | None:
    """Weights that are given by a name, downloaded where they are not there yet; None for a path.

    All processes of a run must call it. The first one downloads; the others then find the file in a cache that they
    share, or download it, too.

    Raises InputError: there are no such weights, they cannot be had without a network, or they are damaged.
    """
    return _on_all_hosts(os.fspath(given)) if is_name(given) else None


def is_name(given: str | os.PathLike[str]) -> bool:
    """Whether weights are given by a name, and not by a path. Raises InputError: the source in it is not known."""
    text = os.fspath(given)
    source, colon, _ = text.partition(":")
    if not colon or not re.fullmatch(r"\w+", source) or pathlib.Path(text).exists():
        return False
    if source not in _SOURCES:
        raise InputError(f"weights {text}: {source!r} is no source of weights; give a path, {FORMS}")
    return True


def unlike(weights: Download, encoder: Encoder) -> str:
    """What is to be told where weights were trained on images that were normalised otherwise than an encoder's are."""
    there, here = ((*one.mean, *one.std) for one in (weights, encoder))
    if not there or np.allclose(there, here, atol=1):
        return ""
    sides = (f"({', '.join(f'{value:.5g}' for value in side)})" for side in (there, here))
    return "they were trained on images with mean and deviation {}, the encoder takes them with {}".format(*sides)


def _on_all_hosts(name: str) -> Download:
    digest = hosts.of_first(lambda: _found(name).sha256)
    found = _found(name)
    if found.sha256 != digest:
        raise InputError(f"weights {name}: {found.path} differs from the first host's file; delete it")
    return found


@functools.cache
def _found(name: str) -> Download:
    """Once in a process, so that its record and its model are of the same file."""
    source, _, rest = name.partition(":")
    with at_key(f"weights {name}: "):
        return _SOURCES[source](rest, name)


def _torchvision(wanted: str, name: str) -> Download:
    """From download.pytorch.org, into the folder in which PyTorch looks for them, too."""
    weights = _of_torchvision(wanted)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = pathlib.Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser()
    path, url = home / "hub" / "checkpoints" / weights.file, f"{_TORCH}/{weights.file}"
    if os.environ.get(_OFFLINE, "").lower() in ("1", "on", "yes", "true") and not path.exists():
        raise InputError(f"{path} is not there, and {_OFFLINE} forbids to download it")
    begin = weights.file.rpartition("-")[2].partition(".")[0]
    fetch(url, path, begin)
    digest = file_digest(path)
    if not digest.startswith(begin):
        raise InputError(f"{path} is damaged, its SHA-256 begins with {digest[: len(begin)]}: delete it")
    return Download(name, url, str(path), path.stat().st_size, digest)


def _of_torchvision(wanted: str) -> Pretrained:
    """Weights by torchvision's name of them, or by its name of a model, which stands for the default."""
    known = {one.name.partition(":")[2]: one for build in ENCODERS.values() for one in published(build) if one.file}
    model = wanted.removesuffix(".DEFAULT").removesuffix("_Weights").lower()
    models = {there.partition("_Weights")[0].lower(): one for there, one in reversed(known.items())}
    found = known.get(wanted) or models.get(model)
    if found is None:
        raise InputError(f"no encoder here has such weights of torchvision{_hint(wanted, [*models, *known])}")
    return found


def _timm(wanted: str, name: str) -> Download:
    known = [one.name.partition(":")[2] for build in ENCODERS.values() for one in published(build)]
    return _from_hub(f"timm/{wanted}", _FILE, name, _hint(wanted, known))


def _hub(wanted: str, name: str) -> Download:
    repo, _, file = wanted.partition(":")
    return _from_hub(repo, file or _FILE, name)


def _from_hub(repo: str, file: str, name: str, hint: str = "") -> Download:
    """A file of a repository of Hugging Face, by its library and in its cache."""
    repo, _, revision = repo.partition("@")
    with extra("hub", "a name of Hugging Face"):
        import huggingface_hub as hub
    try:
        with _quiet():
            path = pathlib.Path(hub.hf_hub_download(repo, file, revision=revision or None))
    except Exception as error:  # a dozen of types, and those of the connection
        raise InputError(_why(error, repo, file, revision, hint)) from error
    digest, kept = file_digest(path), path.resolve()
    if re.fullmatch("[0-9a-f]{64}", kept.name) and kept.name != digest:  # the cache calls large files by their sums
        raise InputError(f"{kept} is damaged, its SHA-256 is {digest}: delete it")
    commit = next((part for part in path.parts if re.fullmatch("[0-9a-f]{40}", part)), revision or "main")
    url = hub.hf_hub_url(repo, file, revision=commit)
    return Download(name, url, str(path), path.stat().st_size, digest, *_normalisation(hub, repo, commit))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within this, Hugging Face's library does not tell of every attempt; what it raises is told in a line."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _normalisation(hub: Any, repo: str, commit: str) -> tuple[tuple[float, ...], ...]:
    """Mean and deviation that timm's configuration in a repository names, for RGB in [0, 255]; none without it."""
    try:
        with _quiet():
            path = hub.hf_hub_download(repo, "config.json", revision=commit)
        text = pathlib.Path(path).read_text(encoding="utf-8")
        facts = json.loads(text)["pretrained_cfg"]
        mean, std = (tuple(round(255 * float(value), 3) for value in facts[key]) for key in ("mean", "std"))
    except Exception:  # it is not there, or of another kind, and all that can be done without it
        return ()
    return (mean, std) if len(mean) == len(std) == 3 else ()


def _why(error: Exception, repo: str, file: str, revision: str, hint: str) -> str:
    """Why a file of a repository cannot be had, and the cure."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} cannot be the name of a repository, which is ORG/REPO"
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} asks you to accept its terms, at {constants.ENDPOINT}/{repo}, and to log in: hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no repository {repo} at {constants.ENDPOINT}, or it is private{hint}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {revision!r}"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        offline = constants.is_offline_mode()
        why = f"{_OFFLINE} forbids to download it" if offline else f"{constants.ENDPOINT} cannot be reached"
        return f"{file} of {repo} is not in the cache {constants.HF_HUB_CACHE}, and {why}; or give a file's path"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repo} has no file {file}{_files(repo, revision)}"
    return f"{file} of {repo} cannot be downloaded: {first_line(error)}; the same call tries again"


def _files(repo: str, revision: str) -> str:
    import huggingface_hub as hub

    try:
        there = [file for file in hub.list_repo_files(repo, revision=revision or None) if file.endswith(_ENDINGS)]
    except Exception:  # only a help
        return ""
    return f"; there: {listed(there, 5)}" if there else ", and no other one of weights"


def _hint(wanted: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(wanted, known, 3, 0.5)
    return f"; did you mean {' or '.join(close)}?" if close else "; `fcam models` lists the names"


_SOURCES: dict[str, Callable[[str, str], Download]] = {"timm": _timm, "torchvision": _torchvision, "hub": _hub}
