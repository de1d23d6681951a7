"""Shared fixtures: four fake devices, the XLA cache, a small data set, the reference material beside the checkout."""

import collections
import gc
import json
import os
import pathlib
import signal
from collections.abc import Iterator

import by_formula
import numpy as np
import PIL.Image
import pytest
from program import QUICKLY_COMPILED

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Before jax is imported: a mesh of four devices on one CPU, so that the mapped step is tested as mapped.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY_COMPILED} --xla_force_host_platform_device_count=4"
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
# Every program is kept, however small: the two workers and the next run have it for nothing.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# A case of one of these takes seconds, however quick its test is with another.
LARGE = {
    "resnet101",
    "resnet152",
    "resnext50",
    "densenet121",
    "inceptionv3",
    "convnext_small",
    "convnext_base",
    "sscam",
}
LARGER = 2 << 30  # bytes in memory that a worker may grow by
OF_CASES = 4  # of so many cases of a `sampled` test one is run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take every test and every case, as `make test-all` does."""
    of_sampled = f"of `sampled` tests all cases, not each {OF_CASES}th"
    parser.addoption("--every-case", action="store_true", help=f"`long` tests, too, and {of_sampled}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out `long` tests and most cases of `sampled` ones, mark those of large networks and of CAMs of many passes
    as slow, and put files of slow tests first: of two workers, neither is left with a long file at the end.
    """
    if not config.getoption("--every-case"):
        _sample(config, items)
    for item in items:
        given = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, str) and value in LARGE for value in given):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.getparent(pytest.Module).get_closest_marker("slow") is None)


def _sample(config: pytest.Config, items: list[pytest.Item]) -> None:
    seen, kept, left_out = collections.Counter[str](), [], []
    for item in items:
        test = item.nodeid.partition("[")[0]
        chosen = item.get_closest_marker("sampled") is None or seen[test] % OF_CASES == 0
        chosen &= item.get_closest_marker("long") is None
        (kept if chosen else left_out).append(item)
        seen[test] += 1
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """What is imported stays, and traces of JAX have few cycles: garbage is collected seldom."""
    gc.set_threshold(20_000, 20, 50)


def in_memory() -> int:
    """Bytes of this process; 0 where the system does not tell."""
    statm = pathlib.Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


@pytest.fixture(scope="session")
def allowed() -> list[int]:
    """How large this worker may become."""
    return [in_memory() + LARGER]


@pytest.fixture(autouse=True, scope="module")
def let_go(allowed) -> Iterator[None]:
    """A worker that has grown large lets go of what earlier files have compiled: it would only become slower."""
    yield
    if in_memory() > allowed[0]:
        import jax

        jax.clear_caches()
        gc.collect()
        allowed[0] = in_memory() + LARGER


@pytest.fixture(autouse=True)
def no_request(monkeypatch):
    """A signal that one test has sent asks none of the others to stop."""
    from fcam_jax.runtime import preemption

    monkeypatch.setattr(preemption, "_request", preemption._Request())


@pytest.fixture
def listening(monkeypatch):
    """Signals are taken as the program takes them; afterwards as before. Calls of it forget a request."""
    from fcam_jax.runtime import preemption

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore it
    preemption.listen()
    yield lambda: monkeypatch.setattr(preemption, "_request", preemption._Request())
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of reference values and data; a test that needs it is skipped where it is absent."""
    path = pathlib.Path(os.environ.get("FCAM_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"reference material not found at {path} (set FCAM_SHARED)")
    return path


@pytest.fixture(scope="session")
def golden_weights(shared):
    """From the name of a golden network to its weights by part and name, made from the formula that
    shared/golden/README.md states.
    """

    def weights(name: str) -> dict[str, dict[str, np.ndarray]]:
        parts = json.loads((shared / "golden" / f"state_dict_keys_{name}.json").read_text())
        return {
            part: {key: by_formula.weight(tensor["seed_key"], tensor["shape"]) for key, tensor in tensors.items()}
            for part, tensors in parts.items()
        }

    return weights


@pytest.fixture(scope="session")
def golden_images() -> np.ndarray:
    """The normalised images that the golden networks were given."""
    return by_formula.images(96)


@pytest.fixture
def bird_folder(tmp_path) -> pathlib.Path:
    """A data set in a folder: 3 classes; 8 training, 4 validation, 4 test images of 40 x 32 pixels with a box each."""
    root = tmp_path / "birds"
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        lines: dict[str, list[str]] = {"image_ids": [], "class_labels": [], "image_sizes": [], "localization": []}
        for i in range(count):
            image_id = f"class{i % 3}/{split}{i}.jpg"
            path = root / "images" / image_id
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(rng.integers(0, 256, (32, 40, 3)).astype(np.uint8)).save(path)
            x, y = rng.integers(0, 12, 2).tolist()
            lines["image_ids"].append(image_id)
            lines["class_labels"].append(f"{image_id},{i % 3}")
            lines["image_sizes"].append(f"{image_id},40,32")
            lines["localization"].append(f"{image_id},{x},{y},{x + 20},{y + 15}")
        folder = root / "metadata" / split
        folder.mkdir(parents=True)
        for name, rows in lines.items():
            (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return root
