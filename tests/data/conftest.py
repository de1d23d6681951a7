"""Small data sets in folders: one as text that a test can spoil before it is written, one in every layout."""

import csv
import dataclasses
import json
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


@dataclasses.dataclass
class SameData:
    """Seven images of 20 x 10 pixels of two classes in three splits, each with a rectangle, in any layout."""

    folder: pathlib.Path
    classes: tuple[str, ...] = ("ant", "bee, honey")
    counts: tuple[tuple[str, int], ...] = (("train", 3), ("val", 2), ("test", 2))

    def images(self, split: str) -> list[tuple[str, int, list[int]]]:
        """Id, label and box of the images of a split."""
        count = dict(self.counts)[split]
        found = [(f"{split}/{self.classes[i % 2]}/{i} é.png", i % 2, [i, 1, 10 + i, 7]) for i in range(count)]
        return sorted(found)

    @staticmethod
    def mask(split: str, left: int) -> str:
        """Path of a mask; without a comma, as the text files cannot have one there."""
        return f"masks/{split} {left}.png"

    def write(self, layout: str, masks: bool = False) -> pathlib.Path:
        """Write it; returns its folder. Where there are masks they are the boxes filled."""
        root = self.folder / f"{layout}{masks}"
        images = root / "images" if layout == "wsol" else root
        for split, _ in self.counts:
            for image_id, _, (x0, y0, x1, y1) in self.images(split):
                (images / image_id).parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(len(image_id) + x0).integers(0, 256, (10, 20, 3), np.uint8)
                PIL.Image.fromarray(pixels).save(images / image_id)
                if masks and layout in ("wsol", "csv"):
                    mask = np.zeros((10, 20), bool)
                    mask[y0:y1, x0:x1] = True
                    (images / "masks").mkdir(exist_ok=True)
                    PIL.Image.fromarray(mask).save(images / self.mask(split, x0))
        getattr(self, f"_write_{layout}")(root, masks)
        return root

    def _write_classes(self, root: pathlib.Path, masks: bool) -> None:
        pass

    def _write_wsol(self, root: pathlib.Path, masks: bool) -> None:
        for split, _ in self.counts:
            folder = root / "metadata" / split
            folder.mkdir(parents=True)
            rows = self.images(split)
            (folder / "image_ids.txt").write_text("\n".join(name for name, _, _ in rows))
            (folder / "class_labels.txt").write_text("\n".join(f"{name},{label}" for name, label, _ in rows))
            (folder / "image_sizes.txt").write_text("\n".join(f"{name},20,10" for name, _, _ in rows))
            lines = [f"{name},{self.mask(split, box[0])}," for name, _, box in rows]
            lines = lines if masks else [f"{name},{','.join(map(str, box))}" for name, _, box in rows]
            (folder / "localization.txt").write_text("\n".join(lines))

    def _write_csv(self, root: pathlib.Path, masks: bool) -> None:
        with (root / "manifest.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "split", "width", "height", "mask" if masks else "boxes"])
            for split, _ in self.counts:
                for name, label, box in self.images(split):
                    objects = self.mask(split, box[0]) if masks else " ".join(map(str, box))
                    writer.writerow([name, self.classes[label], split, 20, 10, objects])

    def _write_jsonl(self, root: pathlib.Path, masks: bool) -> None:
        with (root / "manifest.jsonl").open("w") as file:
            for split, _ in self.counts:
                for name, label, (x0, y0, x1, y1) in self.images(split):
                    row = {"path": name, "label": label, "class_name": self.classes[label], "split": split}
                    counts = [x0 * 10 + y0, *[y1 - y0, 10 - y1 + y0] * (x1 - x0 - 1), y1 - y0]
                    runs = {"size": [10, 20], "counts": [*counts, 200 - sum(counts)]}
                    row |= {"mask": runs} if masks else {"boxes": [[x0, y0, x1, y1]]}
                    file.write(json.dumps(row) + "\n")

    def coco(self, split: str, masks: bool = False) -> dict:
        """Content of the JSON file of a split."""
        rows = self.images(split)
        content: dict = {"categories": [{"id": 7 + 3 * i, "name": name} for i, name in enumerate(self.classes)]}
        content["images"] = [
            {"id": 100 + i, "file_name": name, "width": 20, "height": 10} for i, (name, _, _) in enumerate(rows)
        ]
        content["annotations"] = []
        for i, (_, label, (x0, y0, x1, y1)) in enumerate(rows):
            entry: dict = {"id": i, "image_id": 100 + i, "category_id": 7 + 3 * label, "iscrowd": 0}
            entry |= {"segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]} if masks else {}
            entry |= {"bbox": [x0 + 0.2, y0 - 0.3, x1 - x0, y1 - y0]} if not masks else {}
            content["annotations"].append(entry)
        return content

    def _write_coco(self, root: pathlib.Path, masks: bool) -> None:
        (root / "annotations").mkdir()
        for split, _ in self.counts:
            (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(self.coco(split, masks)))


@pytest.fixture
def same_data(tmp_path) -> SameData:
    return SameData(tmp_path)
