"""Weights by a name: from timm's and other repositories of Hugging Face, and from PyTorch's server."""

import hashlib
import importlib
import json
import logging
import pathlib
import sys
import types

import numpy as np
import pytest
from served import COMMIT, serving

import fcam_jax as fc
from fcam_jax.errors import InputError
from fcam_jax.models import weights_by_name
from fcam_jax.models.encoders import ENCODERS
from fcam_jax.models.import_weights import export_weights, identify, load_classifier, save_weights
from fcam_jax.models.pretrained import Pretrained, Sized, torchvision
from fcam_jax.models.resnet import Small
from fcam_jax.models.weights_by_name import download_of, is_name, located

CLASSES = 5


@pytest.fixture(scope="module")
def network():
    return fc.create_model("small", num_classes=CLASSES, seed=3)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    """A weight file, as those who publish one have it."""
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_weights(export_weights(network), path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """What one test has found is not there for the next."""
    weights_by_name._found.cache_clear()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def pytorch(monkeypatch, tmp_path, file):
    """PyTorch's server with the weights of an encoder, and an empty cache."""
    digest = hashlib.sha256(file).hexdigest()[:8]
    files = {"V2": f"tiny-{digest}.pth", "V1": "tiny-00000000.pth"}
    weights = (*torchvision("Tiny_Net", **files), Pretrained("timm:tiny.in1k", "MIT"))
    monkeypatch.setitem(ENCODERS, "tiny", Sized(Small, pretrained=weights))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with serving() as server:
        server.files |= {f"/{name}": file for name in files.values()}
        monkeypatch.setattr(weights_by_name, "_TORCH", server.url)
        yield server


class Pretended(types.ModuleType):
    """`huggingface_hub` with files that are there already, as (repository, file) with the content."""

    def __init__(self, files, cache):
        super().__init__("huggingface_hub")
        self._files, self._cache = files, cache
        self.errors = types.ModuleType("huggingface_hub.errors")
        for name, base in (
            ("HFValidationError", ValueError),
            ("RepositoryNotFoundError", OSError),
            ("RevisionNotFoundError", OSError),
            ("EntryNotFoundError", Exception),
            ("OfflineModeIsEnabled", ConnectionError),
        ):
            setattr(self.errors, name, type(name, (base,), {}))
        self.errors.GatedRepoError = type("GatedRepoError", (self.errors.RepositoryNotFoundError,), {})
        self.errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (self.errors.EntryNotFoundError,), {})
        self.constants = types.ModuleType("huggingface_hub.constants")
        self.constants.ENDPOINT, self.constants.HF_HUB_CACHE = "http://hub", str(cache)
        self.offline = False
        self.constants.is_offline_mode = lambda: self.offline

    def hf_hub_download(self, repo, file, *, revision=None):
        place = self._cache / f"models--{repo.replace('/', '--')}" / "snapshots" / COMMIT / file
        if repo.count("/") != 1:
            raise self.errors.HFValidationError(repo)
        if place.exists():
            return str(place)
        if self.offline:
            raise self.errors.LocalEntryNotFoundError(file)
        if not any(repo == there for there, _ in self._files):
            raise self.errors.RepositoryNotFoundError(repo)
        if revision not in (None, "main", COMMIT):
            raise self.errors.RevisionNotFoundError(revision)
        if (repo, file) not in self._files:
            raise self.errors.EntryNotFoundError(file)
        blob = place.parents[2] / "blobs" / hashlib.sha256(self._files[repo, file]).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(self._files[repo, file])
        place.symlink_to(blob)
        return str(place)

    def hf_hub_url(self, repo, file, *, revision):
        return f"{self.constants.ENDPOINT}/{repo}/resolve/{revision}/{file}"

    def list_repo_files(self, repo, *, revision=None):
        return [file for there, file in self._files if there == repo]


@pytest.fixture(params=["pretended", "library"])
def hub(request, monkeypatch, tmp_path, file):
    """Hugging Face, by a library that is none or by its own, which asks a server on this machine; an empty cache."""
    cache, config = tmp_path / "hub", {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    files = {
        ("timm/tiny.in1k", "model.safetensors"): file,
        ("timm/tiny.in1k", "config.json"): json.dumps(config).encode(),
        ("somebody/some.thing", "classifier.safetensors"): file,
        ("somebody/some.thing", "README.md"): b"# Something",
    }
    if request.param == "pretended":
        found = Pretended(files, cache)
        for module in (found, found.errors, found.constants):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        yield types.SimpleNamespace(url="http://hub", cache=cache, offline=lambda: setattr(found, "offline", True))
        return
    pytest.importorskip("huggingface_hub")
    with serving() as server:
        server.files |= {f"/{repo}/resolve/main/{name}": data for (repo, name), data in files.items()}
        constants, hf_api = (importlib.import_module(f"huggingface_hub.{name}") for name in ("constants", "hf_api"))
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + template[template.index("/{repo_id}") :]
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)

        def offline():
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

        yield types.SimpleNamespace(url=server.url, cache=cache, offline=offline)


def complaint(name):
    with pytest.raises(InputError) as error:
        download_of(name)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"weights {name}: ")


def same(network, other):
    expected, found = export_weights(network), export_weights(other)
    return all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_path_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("resnet50.pth") == pathlib.Path("resnet50.pth") and download_of("a/b:c.pth") is None
    pathlib.Path("timm:own").touch()
    assert not is_name("timm:own") and is_name("timm:other") and is_name(pathlib.Path("hub:a/b:c.pth"))
    told = "'tmm' is no source of weights; give a path, timm:NAME, torchvision:NAME or hub:ORG/REPO[:FILE]"
    assert complaint("tmm:resnet18") == told


@pytest.mark.parametrize("name", ["Tiny_Net_Weights.V2", "tiny_net", "Tiny_Net_Weights.DEFAULT"])
def test_those_of_torchvision_lie_where_pytorch_has_them(pytorch, tmp_path, name, network, file):
    found = download_of(f"torchvision:{name}")
    path = tmp_path / "hub" / "checkpoints" / found.url.rpartition("/")[2]
    assert found.path == str(path) and found.size == len(file) and found.sha256 == hashlib.sha256(file).hexdigest()
    assert found.name == f"torchvision:{name}" and found.url.startswith(f"{pytorch.url}/tiny-")
    assert same(network, fc.create_model("tiny", f"torchvision:{name}")) and len(pytorch.asked) == 1


def test_torchvision_what_cannot_be_is_a_line(pytorch, monkeypatch, tmp_path):
    told = "no encoder here has such weights of torchvision"
    assert complaint("torchvision:tiny_ned").startswith(f"{told}; did you mean tiny_net")
    assert complaint("torchvision:xyz") == f"{told}; `fcam models` lists the names"
    message = complaint("torchvision:Tiny_Net_Weights.V1")
    assert "tiny-00000000.pth: the file's SHA-256 begins with " in message and "it is discarded" in message
    good = pathlib.Path(download_of("torchvision:tiny_net").path)
    good.write_bytes(b"damaged")
    weights_by_name._found.cache_clear()
    assert complaint("torchvision:tiny_net").startswith(f"{good} is damaged, its SHA-256 begins with ")
    good.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert complaint("torchvision:tiny_net") == f"{good} is not there, and HF_HUB_OFFLINE forbids to download it"


def test_those_of_timm_and_of_any_repository(hub, network, file):
    for name, repo, of in (
        ("timm:tiny.in1k", "timm/tiny.in1k", "model.safetensors"),
        ("timm:tiny.in1k@main", "timm/tiny.in1k", "model.safetensors"),
        ("hub:somebody/some.thing:classifier.safetensors", "somebody/some.thing", "classifier.safetensors"),
        (f"hub:somebody/some.thing@{COMMIT}:classifier.safetensors", "somebody/some.thing", "classifier.safetensors"),
    ):
        found = download_of(name)
        assert found.url == f"{hub.url}/{repo}/resolve/{COMMIT}/{of}" and found.name == name
        assert found.size == len(file) and found.sha256 == hashlib.sha256(file).hexdigest()
        assert found.mean == found.std == ((127.5,) * 3 if "timm" in name else ())
        assert pathlib.Path(found.path).is_relative_to(hub.cache)
        assert same(network, fc.create_model("small", name))


def test_what_is_in_the_cache_needs_no_network(hub):
    first = download_of("timm:tiny.in1k")
    weights_by_name._found.cache_clear()
    hub.offline()
    assert download_of("timm:tiny.in1k") == first
    weights_by_name._found.cache_clear()
    told = f"classifier.safetensors of somebody/some.thing is not in the cache {hub.cache}, and HF_HUB_OFFLINE forbids"
    assert (
        complaint("hub:somebody/some.thing:classifier.safetensors") == f"{told} to download it; or give a file's path"
    )


def test_without_a_network_there_is_one_line(hub, monkeypatch, caplog):
    library = importlib.import_module("huggingface_hub")

    def unreachable(repo, file, revision):
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s")
        raise importlib.import_module("huggingface_hub.errors").LocalEntryNotFoundError(file)

    monkeypatch.setattr(library, "hf_hub_download", unreachable)
    told = f"model.safetensors of timm/tiny.in1k is not in the cache {hub.cache}, and {hub.url} cannot be reached"
    assert complaint("timm:tiny.in1k") == f"{told}; or give a file's path" and not caplog.text


def test_a_damaged_file_of_the_cache_is_told(hub):
    kept = pathlib.Path(download_of("timm:tiny.in1k").path).resolve()
    kept.write_bytes(b"damaged")
    weights_by_name._found.cache_clear()
    assert complaint("timm:tiny.in1k").startswith(f"{kept} is damaged, its SHA-256 is ")


@pytest.mark.usefixtures("pytorch")
def test_what_a_hub_does_not_have_is_a_line(hub):
    told = f"there is no repository timm/tiny.in21k at {hub.url}, or it is private; did you mean tiny.in1k"
    assert complaint("timm:tiny.in21k").startswith(told)
    assert complaint("hub:nobody/nothing") == f"there is no repository nobody/nothing at {hub.url}, or it is private"
    assert complaint("timm:tiny.in1k@old") == "timm/tiny.in1k has no revision 'old'"
    told = "somebody/some.thing has no file model.safetensors; there: classifier.safetensors"
    assert complaint("hub:somebody/some.thing") == told
    assert complaint("hub:a/b/c") == "'a/b/c' cannot be the name of a repository, which is ORG/REPO"


def test_without_the_library_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    told = complaint("timm:tiny.in1k")
    assert told == "a name of Hugging Face needs huggingface_hub: pip install 'fcam-jax[hub]'"


@pytest.mark.slow
def test_the_record_says_where_they_come_from(hub, caplog):
    model = fc.create_model("small", num_classes=CLASSES)
    imported = load_classifier(model, "timm:tiny.in1k", keep_head=True)
    assert imported.download == download_of("timm:tiny.in1k")
    assert imported.files == {imported.download.path: imported.download.sha256}
    # The encoder takes images that are normalised by ImageNet's mean.
    assert (
        "trained on images with mean and deviation (127.5, 127.5, 127.5, 127.5, 127.5, 127.5), the enc" in caplog.text
    )
    caplog.clear()
    assert load_classifier(model, located("timm:tiny.in1k"), keep_head=True).download is None and not caplog.text
    _, lines = identify(pathlib.Path("timm:tiny.in1k"))
    assert lines[0].startswith(f"timm:tiny.in1k: {imported.download.url}, 0.3 MB")


def test_another_host_with_another_file_is_told(hub, monkeypatch):
    monkeypatch.setattr(weights_by_name.hosts, "of_first", lambda compute: compute() and "0" * 64)
    assert "differs from the first host's file; delete it" in complaint("timm:tiny.in1k")


def test_imagenet_classes():
    names = fc.imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[11], names[14], names[146]) == ("tench", "goldfinch", "indigo bunting", "albatross")


@pytest.mark.slow
def test_a_network_of_1000_classes_has_their_names(tmp_path):
    weights = tmp_path / "weights.safetensors"
    save_weights(export_weights(fc.create_model("small", num_classes=1000)), weights)
    loaded = fc.load(weights, encoder="small", size=64)
    assert loaded.class_names == fc.imagenet_classes() and loaded.network.label_of("albatross") == 146
    (tmp_path / "class_names.txt").write_text("".join(f"own {number}\n" for number in range(1000)))
    assert fc.load(weights, encoder="small", size=64).class_names[146] == "own 146"
    save_weights(export_weights(fc.create_model("small", num_classes=3)), weights)
    (tmp_path / "class_names.txt").unlink()
    assert fc.load(weights, encoder="small", size=64).class_names == [None] * 3
    with pytest.raises(InputError, match=r"^torchvision:resnet50 is weights alone: say of which encoder"):
        fc.load("torchvision:resnet50")
