"""A small data set in a folder, as text that a test can spoil before it is written."""

import dataclasses
import pathlib

import numpy as np
import PIL.Image
import pytest

from fcam_jax.data.folder import FolderSource

WIDTH, HEIGHT = 12, 8


@dataclasses.dataclass
class SmallDataset:
    """Three images of 12 x 8 pixels in two classes; the first has two boxes."""

    root: pathlib.Path
    split: str = "test"
    files: dict[str, str] = dataclasses.field(
        default_factory=lambda: {
            "image_ids.txt": "a/1.png\na/2 second.png\nb/3.png\n",
            "class_labels.txt": "a/1.png,0\na/2 second.png,0\nb/3.png,1\n",
            "image_sizes.txt": "a/1.png,12,8\na/2 second.png,12,8\nb/3.png,12,8\n",
            "localization.txt": "a/1.png,0,0,12,8\na/2 second.png,1,2,3,4\nb/3.png,5,5,6,6\na/1.png,2,2,11,7\n",
        }
    )

    def pixels(self, number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)

    def write_images(self) -> None:
        for number, image_id in enumerate(["a/1.png", "a/2 second.png", "b/3.png"]):
            path = self.root / "images" / image_id
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(self.pixels(number)).save(path)

    def open(self, **options) -> FolderSource:
        folder = self.root / "metadata" / self.split
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_bytes(text.encode())
        return FolderSource(**{"split": self.split, "root": self.root, "num_classes": 2} | options)


@pytest.fixture
def dataset(tmp_path) -> SmallDataset:
    small = SmallDataset(tmp_path)
    small.write_images()
    return small
