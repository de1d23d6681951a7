"""The three data sets of Choe et al. (CVPR 2020): what is published of them, and how their files may be laid out.

Facts only; nothing here reads a file. Checksums are those of TensorFlow Datasets; CUBV2 and OpenImages30k have none.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from fcam_jax.component import Registry
from fcam_jax.data.source import SPLITS

_IMAGENET_V2 = "imagenetv2-threshold0.7"
_SHA256 = {
    "CUB_200_2011": "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    "ILSVRC2012_img_train": "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
    "ILSVRC2012_img_val": "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
    "imagenetv2": "32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2",
}
# Of the prepared data; to be raised when what is stored changes.
VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file that a data set is distributed in."""

    name: str  # of the file
    splits: tuple[str, ...]  # whose images or masks it holds
    size: int | None = None  # in bytes, where it is published
    sha256: str | None = None  # likewise


@dataclasses.dataclass(frozen=True)
class WsolDataset:
    """What is known of a data set before its files are seen."""

    key: str  # what the command line calls it
    name: str  # of the prepared data set
    folder: str  # of its metadata in the published collection; also the folder that the published scripts put images in
    num_classes: int  # labels are below it
    images: Mapping[str, int]  # published number of images of each split
    boxes: Mapping[str, int]  # published number of boxes, where it differs from that of the images
    archives: tuple[Archive, ...]  # the files it is distributed in
    # of each split, what an image id begins with, and by what that may be replaced to give a path in the folder of
    # the user or in an archive
    layouts: Mapping[str, tuple[str, tuple[str, ...]]]
    sized: bool  # whether sizes of the images are published
    homepage: str  # of the data set
    description: str  # one line

    def paths(self, split: str, name: str) -> Iterator[str]:
        """Where a file of the metadata may lie, the likeliest place first."""
        start, replacements = self.layouts[split]
        return (replacement + name.removeprefix(start) for replacement in replacements)


_CUB = WsolDataset(
    key="cub",
    name="cub_wsol",
    folder="CUB",
    num_classes=200,
    images={"train": 5994, "val": 1000, "test": 5794},
    boxes={},
    archives=(
        Archive("CUB_200_2011.tgz", ("train", "test"), 1150585339, _SHA256["CUB_200_2011"]),
        Archive("CUBV2.tar", ("val",)),
    ),
    layouts=dict.fromkeys(SPLITS, ("", ("", "CUB/", "CUB_200_2011/images/", "images/", "CUBV2/"))),
    sized=True,
    homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    description="CUB-200-2011, with CUBV2 as validation split.",
)

_OPENIMAGES = WsolDataset(
    key="openimages",
    name="openimages30k_wsol",
    folder="OpenImages",
    num_classes=100,
    images={"train": 29819, "val": 2500, "test": 5000},
    boxes={},
    archives=(
        Archive("OpenImages_images.zip", SPLITS),
        Archive("OpenImages_annotations.zip", ("val", "test")),
        Archive("OpenImages30k_eval.zip", ("val", "test")),
    ),
    layouts=dict.fromkeys(SPLITS, ("", ("", "OpenImages/"))),
    sized=False,
    homepage="https://github.com/clovaai/wsolevaluation",
    description="OpenImages30k: images of OpenImages V5 in 100 classes, with masks for validation and test.",
)

_ILSVRC = WsolDataset(
    key="ilsvrc",
    name="ilsvrc_wsol",
    folder="ILSVRC",
    num_classes=1000,
    images={"train": 1281167, "val": 10000, "test": 50000},
    boxes={"val": 18532, "test": 80477},
    archives=(
        Archive("ILSVRC2012_img_train.tar", ("train",), 147897477120, _SHA256["ILSVRC2012_img_train"]),
        Archive(f"{_IMAGENET_V2}.tar.gz", ("val",), 1249906176, _SHA256["imagenetv2"]),
        Archive("ILSVRC2012_img_val.tar", ("test",), 6744924160, _SHA256["ILSVRC2012_img_val"]),
    ),
    # Without a folder: the members of the archives. Data/CLS-LOC: the layout of Kaggle's copy.
    layouts={
        "train": ("train/", ("train/", "ILSVRC/train/", "", "ILSVRC/Data/CLS-LOC/train/", "Data/CLS-LOC/train/")),
        "val": ("val2/", ("val2/", "ILSVRC/val2/", f"{_IMAGENET_V2}/", f"{_IMAGENET_V2}-format-val/")),
        "test": ("val/", ("val/", "ILSVRC/val/", "", "ILSVRC/Data/CLS-LOC/val/", "Data/CLS-LOC/val/")),
    },
    sized=True,
    homepage="https://www.image-net.org/",
    description="ILSVRC 2012, with ImageNetV2 (threshold 0.7) as validation split and ILSVRC's validation as test.",
)

DATASETS = Registry("published data set", {one.key: one for one in (_CUB, _OPENIMAGES, _ILSVRC)})
