"""A table of images as spreadsheets and other programs write it: letters, delimiter, and columns by our names."""

import codecs
import csv
import io
import pathlib
import re

from fcam_jax.runtime.files import TABLE, open_regular

COLUMNS = "path label boxes mask ignore split sha256 width height image_id class_name".split()  # noqa: SIM905

# What other programs call the columns, in small letters and with nothing between words.
_ALSO = {
    "path": "filepath filename filenames file image images imagepath imagefile imagename img imgpath imgname",
    "label": "labels class classes category categories target species breed y classid labelid categoryid "
    "classlabel diagnosis dx",
    "boxes": "box bbox bboxes boundingbox boundingboxes",
    "mask": "masks maskpath",
    "split": "set subset partition phase",
    "width": "imagewidth imgwidth",
    "height": "imageheight imgheight",
    "image_id": "id imageid idcode",
    "class_name": "classname labelname categoryname",
}
_MEANT = {other: name for name, others in _ALSO.items() for other in others.split()}

# Four columns of a box, with what they are of `boxes.FORMS`.
_EDGES = {
    **dict.fromkeys(("xmin ymin xmax ymax", "x0 y0 x1 y1", "x1 y1 x2 y2", "left top right bottom"), "corners"),
    **dict.fromkeys(("x y w h", "x y width height", "left top width height", "xmin ymin w h"), "xywh"),
    **dict.fromkeys(("bboxx bboxy bboxwidth bboxheight", "xmin ymin width height"), "xywh"),
    **dict.fromkeys(("xcenter ycenter width height", "cx cy w h", "xc yc w h"), "centre"),
}
EDGE = "edge "  # and its number: the name of one of them


def opened(path: pathlib.Path) -> io.TextIOWrapper:
    """A text in UTF-8, or in UTF-16 with the mark that spreadsheets begin it with."""
    file = open_regular(path, TABLE)
    marked = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return io.TextIOWrapper(file, encoding="utf-16" if marked else "utf-8-sig", newline="")


def delimiter_of(line: str) -> str:
    """What stands between the columns that the first line names."""
    return max(",;\t|", key=lambda mark: len({"path", "label"} & set(columns(line, mark)[0])))


def columns(line: str, delimiter: str) -> tuple[list[str], str]:
    """The columns by our names and, where four of them are a box, which of `boxes.FORMS` it has.

    A column of numbers of rows is ``""``, one that is not known has its own name.
    """
    given = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    given = [name.strip() for name in given]
    words = [re.sub(r"[\W_]+", "", name).lower() for name in given]
    names = [name if name in COLUMNS else _MEANT.get(word, name) for name, word in zip(given, words, strict=True)]
    names = ["" if word in ("", "index", "unnamed0") else name for name, word in zip(names, words, strict=True)]
    form = ""
    for edges, its_form in _EDGES.items():
        if not form and "boxes" not in names and set(edges.split()) <= set(words):
            form = its_form
            for position, edge in enumerate(edges.split()):
                names[words.index(edge)] = f"{EDGE}{position}"
    for name, other in (("path", "image_id"), ("label", "class_name")):
        if name not in names and other in names:
            names[names.index(other)] = name
    return names, form


def first_line(path: pathlib.Path) -> str:
    """The first line of a table; empty where it cannot be read."""
    try:
        with opened(path) as file:
            return file.readline(1 << 16)
    except (OSError, UnicodeError):
        return ""
