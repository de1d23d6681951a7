"""Tiny data sets with the ids, text files, folders and archives of the three published ones."""

import dataclasses
import io
import pathlib
import tarfile
import zipfile

import numpy as np
import PIL.Image

from fcam_jax.cli import command
from fcam_jax.data.published import datasets as wsol_datasets
from fcam_jax.data.published.datasets import DATASETS
from fcam_jax.data.source import SPLITS

SIZES = ((12, 8), (9, 14), (20, 10))  # widths and heights, in turn
CLASSES = 2


def encoded(seed: int, size: tuple[int, int], kind: str = "JPEG") -> bytes:
    rng = np.random.default_rng(seed)
    pixels = rng.random(size[::-1]) < 0.4 if kind == "PNG" else rng.integers(0, 256, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def as_tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in members.items():
            add(archive, name, data)
    return file.getvalue()


def as_zip(members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@dataclasses.dataclass
class Replica:
    """Its files by split and name in the metadata, and the lines of its text files."""

    key: str
    root: pathlib.Path
    counts: dict[str, int] = dataclasses.field(default_factory=lambda: {"train": 6, "val": 4, "test": 5})
    files: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    texts: dict[str, dict[str, list[str]]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for number, split in enumerate(SPLITS):
            self.files[split] = {}
            self.texts[split] = {name: [] for name in ("image_ids", "class_labels", "image_sizes", "localization")}
            for i in range(self.counts[split]):
                self._add(split, i, 100 * number + i)
        self.write_metadata()

    def image_id(self, split: str, i: int) -> str:
        label = i % CLASSES
        return {
            "cub": f"{label + 1:03d}.Bird_{label}/{'3010' if split == 'val' else f'Bird_{split}_'}{i}.jpg",
            "openimages": f"{split}/0bt{label}/{i:04x}.jpg",
            "ilsvrc": {
                "train": f"train/n0144000{label}/n0144000{label}_{i}.JPEG",
                "val": f"val2/{label}/{i:08x}.jpeg",
                "test": f"val/ILSVRC2012_val_{i:08d}.JPEG",
            }[split],
        }[self.key]

    def _add(self, split: str, i: int, seed: int) -> None:
        image_id, (width, height) = self.image_id(split, i), SIZES[i % len(SIZES)]
        texts, files = self.texts[split], self.files[split]
        files[image_id] = encoded(seed, (width, height))
        texts["image_ids"].append(image_id)
        texts["class_labels"].append(f"{image_id},{i % CLASSES}")
        if self.key != "openimages":
            texts["image_sizes"].append(f"{image_id},{width},{height}")
            boxes = 1 + i % 2 if self.key == "ilsvrc" else 1
            if split != "train" or self.key == "cub":
                texts["localization"] += [f"{image_id},{n},1,{width - n},{height - 1}" for n in range(boxes)]
        elif split != "train":
            stem = image_id.removesuffix(".jpg")
            ignore = f"{stem}_ignore.png" if i % 2 else ""
            if ignore:
                files[ignore] = encoded(seed + 50, (16, 16), "PNG")
            for n in range(1 + i % 3):
                files[f"{stem}_m{n}.png"] = encoded(seed + 60 + n, (16, 16), "PNG")
                texts["localization"].append(f"{image_id},{stem}_m{n}.png,{ignore if n == 0 else ''}")

    @property
    def dataset(self) -> wsol_datasets.WsolDataset:
        return DATASETS[self.key]

    @property
    def metadata(self) -> pathlib.Path:
        return self.root / "texts" / self.dataset.folder

    @property
    def source(self) -> pathlib.Path:
        return self.root / "source"

    @property
    def data_dir(self) -> pathlib.Path:
        return self.root / "prepared"

    @property
    def prepared(self) -> pathlib.Path:
        return self.data_dir / self.dataset.name / wsol_datasets.VERSION

    def write_metadata(self) -> None:
        for split, texts in self.texts.items():
            (self.metadata / split).mkdir(parents=True, exist_ok=True)
            for name, lines in texts.items():
                (self.metadata / split / f"{name}.txt").write_text("\n".join(lines))

    def extract(self, below: str | None = None, splits=SPLITS) -> None:
        """Write the files as the published scripts leave them."""
        for split in splits:
            for name, data in self.files[split].items():
                path = self.source / (self.dataset.folder if below is None else below) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def pack(self, variant: int = 0) -> None:
        """Write the archives as they are distributed; two variants of the folders inside."""
        self.source.mkdir(exist_ok=True)
        for name, data in getattr(self, f"_pack_{self.key}")(variant).items():
            (self.source / name).write_bytes(data)

    def _pack_cub(self, variant: int) -> dict[str, bytes]:
        images = {**self.files["train"], **self.files["test"]}
        birds = {f"CUB_200_2011/images/{name}": data for name, data in images.items()}
        birds["CUB_200_2011/README"] = b"not an image"
        start = ("", "./CUBV2/")[variant]
        return {
            "CUB_200_2011.tgz": as_tar(birds, "w:gz"),
            "CUBV2.tar": as_tar({start + name: data for name, data in self.files["val"].items()}),
        }

    def _pack_openimages(self, variant: int) -> dict[str, bytes]:
        start, kind = (("", zipfile.ZIP_STORED), ("OpenImages/", zipfile.ZIP_DEFLATED))[variant]
        every = {start + name: data for files in self.files.values() for name, data in files.items()}
        images = {name: data for name, data in every.items() if name.endswith(".jpg")}
        masks = {name: data for name, data in every.items() if name.endswith(".png")}
        return {"OpenImages_images.zip": as_zip(images, kind), "OpenImages_annotations.zip": as_zip(masks, kind)}

    def _pack_ilsvrc(self, variant: int) -> dict[str, bytes]:
        by_class: dict[str, dict[str, bytes]] = {}
        for name, data in self.files["train"].items():
            _, folder, file = name.split("/")
            by_class.setdefault(folder, {})[file] = data
        test = {name.removeprefix("val/"): data for name, data in self.files["test"].items()}
        start = "imagenetv2-threshold0.7" + ("", "-format-val")[variant]
        val = {f"{start}/{name.removeprefix('val2/')}": data for name, data in self.files["val"].items()}
        return {
            "ILSVRC2012_img_train.tar": as_tar({f"{name}.tar": as_tar(files) for name, files in by_class.items()}),
            "ILSVRC2012_img_val.tar": as_tar(test),
            "imagenetv2-threshold0.7.tar.gz": as_tar(val, "w:gz"),
        }

    def publish(self, monkeypatch, **changes) -> None:
        """Make its counts the published ones, and none of its archives' checksums."""
        archives = tuple(dataclasses.replace(a, size=None, sha256=None) for a in self.dataset.archives)
        boxes = {split: len(self.texts[split]["localization"]) for split in self.dataset.boxes}
        facts = {"images": self.counts, "boxes": boxes, "archives": archives} | changes
        monkeypatch.setitem(DATASETS, self.key, dataclasses.replace(self.dataset, **facts))

    def prepare(self, *more: str) -> None:
        options = {"dataset": self.key, "source": self.source, "data_dir": self.data_dir, "workers": 2}
        if not any(option.startswith("--metadata") for option in more):
            options["metadata"] = self.metadata
        command.main(["prepare", *(f"--{name}={value}" for name, value in options.items()), *more])
