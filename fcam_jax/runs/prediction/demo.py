"""A page on which a network is tried in a browser, by Gradio: photographs in; maps, masks, boxes and classes out.

The network runs where a photograph, a class or a CAM is chosen. A threshold cuts the maps that are there.
"""

import contextlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from fcam_jax.cams import CAMS
from fcam_jax.errors import InputError
from fcam_jax.models.fcam import FCAM
from fcam_jax.runs.class_names import class_title
from fcam_jax.runs.classifiers import STAGE
from fcam_jax.runs.prediction.images import images_of
from fcam_jax.runs.prediction.journal import record_of
from fcam_jax.runs.prediction.network import PREDICTED, ByCam
from fcam_jax.runs.prediction.pictures import drawn
from fcam_jax.runs.prediction.public import Loaded, Predictions, load
from fcam_jax.runs.report.drawing import encoded, enlarge
from fcam_jax.runs.report.record import EVALUATION, EXAMPLES
from fcam_jax.runs.trained import run_of
from fcam_jax.runtime.text import file_name, fitted
from fcam_jax.types import Image

LAYERS = ("map", "mask", "box")
STEP = 0.001  # of the sliders
_SIDE, _THUMB = 640, 128  # the longer side of a picture, and of a small one
_TOP, _EXAMPLES = 5, 8  # classes that are shown; images of a run that are there from the start
_TEMPORARY = "GRADIO_TEMP_DIR"  # names the folder of what is uploaded and shown
_STYLE = """
.gradio-container { padding: 0 !important }
.gradio-container > .main { padding: 16px !important }
.photographs .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important }
.picture img { max-height: 55vh; object-fit: contain }
.dark { color-scheme: dark }
"""

Photo = tuple[pathlib.Path, Image]  # the file, and what it looks like
Found = tuple[Predictions, ...]  # of one photograph by each network


def networks_of(checkpoint: pathlib.Path, cam: str | None, **of_weights: Any) -> list[Loaded]:
    """The classifier with a CAM, by default its own, and behind it F-CAM where it is trained; see `load`."""
    network = load(checkpoint, cam=cam, batch_size=1, **of_weights)
    if not isinstance(network.network.model, FCAM):
        return [network]
    fcam = network if cam is None else load(checkpoint, batch_size=1)
    return [load(run_of(checkpoint) / STAGE, cam=cam, batch_size=1), fcam]


def examples_of(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    """Test images that the evaluation of a run has kept; none where the checkpoint is of no run."""
    return sorted((run_of(checkpoint) / EVALUATION / EXAMPLES).glob("*.jpg"))[:_EXAMPLES] if checkpoint.is_dir() else []


def cams_of(network: Loaded) -> list[tuple[str, str]]:
    """Titles and names of the CAMs that a classifier can be explained by: its own first."""
    own = network.network.title
    found = [(_title(own), own)]
    for name in (name for name in CAMS if name != own):
        with contextlib.suppress(InputError):  # it is for other networks
            passes = network.network.by_cam(ByCam(name)).passes()
            found.append((_title(name) + (f" ({passes:,} passes)" if passes else ""), name))
    return found


def cut(found: Predictions, share: float) -> Predictions:
    """The same cut at a slider's place; where that was not moved, at the network's own threshold."""
    own = math.isclose(share, found.network.threshold.value, abs_tol=STEP / 2)
    return found.cut(None if own else min(share, 1 - STEP))


def picture(found: Predictions, layers: Sequence[str]) -> Image:
    """The photograph, with the map over it, the mask's outline (without a map its area) and the largest box."""
    (one,), (image,) = found.found, found.images
    given = {"map": one.score_map, "mask": one.mask, "box": one.boxes[:1]}
    score_map, mask, box = (given[layer] if layer in layers else None for layer in LAYERS)
    return drawn(image, _SIDE, score_map, box, mask)


def facts(found: Predictions) -> str:
    """Class, box, mask and threshold in words."""
    (one,), threshold = found.found, found.threshold
    box = f"box {', '.join(map(str, one.boxes[0].tolist()))} (x0, y0, x1, y1)" if len(one.boxes) else "no box"
    lines = (
        f"{found.classes[0]}, {one.probabilities[one.label]:.1%}",
        box,
        f"mask {one.mask.mean():.1%} of the image",
        f"threshold {threshold.value:.3f} ({threshold.source})",
    )
    return "\n".join(lines)


def saved(found: Sequence[Predictions], name: str, folder: pathlib.Path) -> list[str]:
    """Map, mask and record of each prediction as files for a photograph of a name; returns their paths."""
    paths: list[pathlib.Path] = []
    for each in found:
        (one,), (image,), network = each.found, each.images, each.network
        begin = f"{fitted(name)}.{file_name(network.title)}"
        files = {"map": f"{begin}.npy", "mask": f"{begin}.mask.png"}
        record = record_of(name, image.shape[:2], one, each.threshold, network.class_names, _TOP)
        paths += [*(folder / file for file in files.values()), folder / f"{begin}.json"]
        np.save(paths[-3], one.score_map.astype(np.float16))
        paths[-2].write_bytes(encoded(np.where(one.mask, 255, 0).astype(np.uint8)))
        paths[-1].write_text(json.dumps({"title": network.title, **record, **files}, indent=1), encoding="utf-8")
    return list(map(str, paths))


class Page:
    """What the elements of the page call. What a visitor has chosen and seen, they give and take."""

    def __init__(self, networks: Sequence[Loaded], examples: Sequence[pathlib.Path] = ()):
        """The networks are the classifier and, behind it, F-CAM; the examples are there from the start."""
        self.networks, self.examples = networks, examples
        self.first = networks[0].network

    def add(self, paths: Sequence[str | pathlib.Path], there: list[Photo]) -> tuple[Any, ...]:
        """Put the photographs in files before those that are there, and tell of what cannot be read."""
        new = []
        for path in map(pathlib.Path, paths):
            try:
                new.append((path, enlarge(images_of(path, self.first.window)[0], _THUMB)))
            except InputError as error:
                gr.Warning(_told(error, path))
        if not new:
            return None, gr.skip(), gr.skip(), gr.skip()
        both = [*new, *there]
        return None, both, 0, gr.update(value=[thumb for _, thumb in both], selected_index=0)

    def start(self) -> tuple[Any, ...]:
        """Put the examples there."""
        return self.add(self.examples, [])

    def look(
        self, there: list[Photo], at: int, label: int, cam: str, layers: Sequence[str], *shares: float
    ) -> list[Any] | dict[str, Any]:
        """Run the networks on a photograph. Raises Gradio's error: they cannot."""
        if at >= len(there):
            return gr.skip()
        path, first = there[at][0], self.networks[0]
        by = [cam if cam != self.first.title else None] + [None] * (len(self.networks) - 1)
        wanted = None if label == PREDICTED else label
        try:
            found = tuple(one(path, label=wanted, cam=cam) for one, cam in zip(self.networks, by, strict=True))
        except InputError as error:
            raise gr.Error(_told(error, path), print_exception=False) from None
        (one,) = found[0].found
        likely = np.argsort(-one.logits, kind="stable")[:_TOP].tolist()
        classes = {class_title(first.class_names, i): float(one.probabilities[i]) for i in likely}
        return [found, classes, gr.update(interactive=True), *self.redraw(found, layers, *shares)]

    def redraw(self, found: Found, layers: Sequence[str], *shares: float) -> list[Any] | dict[str, Any]:
        """Show what was found at other thresholds; no network runs."""
        if not found:
            return gr.skip()
        now = list(map(cut, found, shares))
        pictures = [gr.update(value=picture(one, layers), label=_heading(one), alt_text=_heading(one)) for one in now]
        return [gr.update(value=None, visible=False), *pictures, *map(facts, now)]

    def save(self, found: Found, there: list[Photo], at: int, *shares: float) -> dict[str, Any]:
        """Write what is shown into files, and offer these."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get(_TEMPORARY)))
        return gr.update(value=saved(list(map(cut, found, shares)), there[at][0].name, folder), visible=True)

    def threshold(self, cam: str) -> float:
        """Where the maps of a CAM are cut before a slider is moved."""
        return (self.first if cam == self.first.title else self.first.by_cam(ByCam(cam))).threshold.value


def blocks_of(page: Page) -> gr.Blocks:
    """The page's elements, and what calls what."""
    classes = [(class_title(page.first.class_names, i), i) for i in range(len(page.first.class_names))]
    with gr.Blocks(title="fcam demo", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        there, at, found = gr.State([]), gr.State(0), gr.State(())
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                drop = gr.File(label="Photographs", file_count="multiple", file_types=["image"], height=130)
                of_thumbs: dict[str, Any] = {"height": 170, "allow_preview": False, "buttons": []}
                thumbs = gr.Gallery(show_label=False, elem_classes="photographs", **of_thumbs)
                label = gr.Dropdown([("the predicted one", PREDICTED), *classes], value=PREDICTED, label="Class")
                cam = gr.Dropdown(cams_of(page.networks[0]), value=page.first.title, label="CAM of the classifier")
                layers = gr.CheckboxGroup(list(LAYERS), value=list(LAYERS), label="Shown")
                scores = gr.Label(label="Predicted classes", num_top_classes=_TOP, show_heading=False)
            with gr.Column(scale=3):
                with gr.Row():
                    pictures, sliders, texts = zip(*map(_panel, page.networks), strict=True)
                save = gr.Button("Save map, mask and box", variant="primary", interactive=False)
                files = gr.File(label="Files, in pixels of the photograph", interactive=False, visible=False)

        def pick(event: gr.SelectData) -> int:
            return int(event.index)

        drawn = [files, *pictures, *texts]
        chosen, put = [there, at, label, cam, layers, *sliders], [drop, there, at, thumbs]
        look: dict[str, Any] = {"fn": page.look, "inputs": chosen, "outputs": [found, scores, save, *drawn]}
        blocks.load(page.start, None, put).then(**look)
        drop.upload(page.add, [drop, there], put).then(**look)
        thumbs.select(pick, None, at, show_progress="hidden").then(**look)
        label.input(**look)
        cam.input(page.threshold, cam, sliders[0], show_progress="hidden").then(**look)
        moved = [layers.input, *(slider.input for slider in sliders)]
        again: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
        gr.on(moved, page.redraw, [found, layers, *sliders], drawn, **again)
        save.click(page.save, [found, there, at, *sliders], files)
    return blocks


@contextlib.contextmanager
def serving(page: Page, host: str, port: int) -> Iterator[str]:
    """Within this the page is served, at the address that it yields; what was uploaded is removed at the end."""
    theme = gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))
    off: dict[str, Any] = dict.fromkeys(("share", "ssr_mode", "pwa", "mcp_server", "enable_monitoring"), False)
    off |= {"run_history": False, "footer_links": [], "inline": False, "quiet": True, "prevent_thread_lock": True}
    # Gradio asks itself whether it is there, which a proxy of the network's cannot say.
    direct = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    os.environ["no_proxy"] = ",".join(filter(None, (direct, "localhost", host)))
    with tempfile.TemporaryDirectory(prefix="fcam-demo-") as folder:
        os.environ[_TEMPORARY] = folder
        blocks = blocks_of(page)
        address = blocks.launch(server_name=host, server_port=port, theme=theme, css=_STYLE, **off)[1]
        try:
            yield address
        finally:
            blocks.close(verbose=False)


def _panel(network: Loaded) -> tuple[gr.Image, gr.Slider, gr.Textbox]:
    """A picture with its threshold and facts."""
    title, own = network.network.title, round(network.network.threshold.value, 3)
    with gr.Column(min_width=280):
        shown = gr.Image(label=title, interactive=False, format="png", buttons=["fullscreen"], elem_classes="picture")
        slider = gr.Slider(0, 1 - STEP, own, step=STEP, label="Threshold (share of the maximum)")
        return shown, slider, gr.Textbox(label="Found", lines=4, interactive=False)


def _heading(found: Predictions) -> str:
    if isinstance(found.network.model, FCAM) and not isinstance(found.network.localizer, ByCam):
        return f"{found.network.title} (the same for all classes)"
    return f"{_title(found.network.title)} of {found.classes[0]}"


def _title(name: str) -> str:
    return CAMS[name].title if name in CAMS else name


def _told(error: InputError, path: pathlib.Path) -> str:
    """What an error says, without the folder into which a photograph was uploaded."""
    return str(error).replace(f"{path.parent}{os.sep}", "")
