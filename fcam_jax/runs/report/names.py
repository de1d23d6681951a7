"""Names of images, classes and methods, which may hold anything, made fit for figures and files."""

import urllib.parse

from fcam_jax.data.layouts.problems import printable as printable


def shorten(text: str, letters: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= letters else text[: letters - 3] + "..."


def file_name(name: str) -> str:
    """The name with all letters but plain ones written as escapes, so that it is one part of a path."""
    return urllib.parse.quote(name.encode("utf-8", "surrogatepass"), safe=" (),").replace(".", "%2E")
