"""The page of the public face: its code runs in order, and mistakes are answered in a line.

It runs in a process of its own, as a reader's would: without the types that the tests check at every call.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from program import QUICKLY_COMPILED

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
READER = """
import json, re, sys
import fcam_jax as fc
blocks = re.findall(r"```python\\n(.*?)```", open(sys.argv[1]).read(), re.S)
names = {}
for block in blocks:
    printed = []
    names["print"] = lambda *given: printed.append(" ".join(map(str, given)))
    exec(compile(block, "docs/api.md", "exec"), names)
answers = {}
for call in json.loads(sys.argv[2]):
    try:
        answers[call] = f"nothing: {eval(call, names)}"
    except Exception as error:
        answers[call] = f"{type(error).__name__}: {error}"
shapes = [eval(what, names) for what in json.loads(sys.argv[3])]
print(json.dumps({"last": [blocks[-1], printed], "answers": answers, "shapes": shapes}))
"""
# Call -> what is said of it.
MISTAKES = {
    "model(photo, label=1.5)": "label=1.5 is no class of this network; they are 0 to 7",
    "model(photo, batch_size=0)": "batch_size is 0; it must be a whole number from 1",
    "model(photo, threshold='x')": "threshold=x must lie in [0, 1), as a share of each map's maximum",
    "fc.load('runs/tiny', batch_size=-1)": "batch_size is -1; it must be a whole number from 1",
    "fc.create_model('small', num_classes=2.5)": "num_classes is 2.5; it must be at least 1, and whole",
    "fc.show(photo, 'x')": "map: no array of numbers (<U1)",
    "fc.show(photo, maps[0] * np.nan)": "map hold NaN or infinities",
    "fc.show(photo, maps[0], ('a', 2, 3, 4))": "box has shape (4,) of <U21; it must be x0, y0, x1, y1, or several",
    "fc.show(photo, title=5)": "title is 5; it must be text, or for a list of images a text for each",
    "fc.show(photo, path='none/x.png')": "none/x.png: cannot be written: ",
    "fc.show(photo, path='x.foo')": "x.foo: cannot be written: unknown file extension: .foo",
    "fc.evaluate(maps, boxes=[(1, 2, 3, 4)] * 2, bootstrap='x')": "bootstrap is x; it must be at least 0",
    "fc.cams.compute('cam', classifier, images * np.nan)": "images hold NaN or infinities",
    "fc.cams.compute(5, classifier, images)": "cam is 5; it must be the name of a CAM, or one with its settings",
    "fc.cams.compute('cam', classifier, 'x')": "images: no array of numbers (<U1)",
    "fc.cams.compute('cam', classifier, images, 'ab')": "labels: no array of numbers (<U2)",
    "fc.losses.dense_crf(maps, images, sigma_rgb='x')": "sigma_rgb is x; it must be above 0",
    "fc.seeds.draw_seeds(maps, 0, size=30)": "size is 30; it must be height and width in pixels, such as",
    "fc.seeds.draw_seeds(maps, 0, erosion='x')": "erosion is x; it must be ",
    "fc.load(None)": "path is None; it must be a path",
    "fc.load('')": "path is ''; it must be a path",
    "fc.load('nowhere')": "nowhere: no such folder",
    "fc.load('runs/tiny', cam=5)": "cam is 5; it must be the name of a CAM, or a ByCam",
    "fc.load('runs/tiny', mirrored='no')": "mirrored is 'no'; it must be True or False",
    "fc.load('runs/tiny', stages=3)": "'stages' is no argument of load; there: cam, mirrored, batch_size, ",
    "fc.load('runs/tiny', ['small'])": "unknown encoder ['small']; known: ",
    "fc.load('runs/tiny', 'small', size='x')": "size is 'x'; it must be at least 1, and whole",
    "fc.load('runs/tiny', 'small', probability='x')": "unknown probability 'x'; known: sigmoid, softmax",
    "model(photo, cam=5)": "cam is 5; it must be the name of a CAM, or a ByCam",
    "model(photo, label={})": "label={} is no class of this network; they are 0 to 7",
    "model(photo, threshold=[1])": "threshold=[1] must lie in [0, 1), as a share of each map's maximum",
    "fc.create_model('small', num_classes=2, seed='x')": "seed is 'x'; it must be at least 0, and whole",
    "fc.create_model('small', num_classes=2, dtype='x')": "dtype is 'x'; it must be that of numbers, such as",
    "fc.create_model(['small'], num_classes=2)": "unknown encoder ['small']; known: ",
    "fc.create_model('small', 3)": "weights is 3; it must be a path",
    "fc.list_models(3)": "pattern is 3; it must be a text such as 'resnet*'",
    "classifier(images / 255, train=False)": "images lie in [0, 1]; give RGB in [0, 255]: multiply them by 255",
    "classifier(images / 127.5 - 1, train=False)": "images lie in [-1, 1]; give RGB in [0, 255]: undo their normalis",
    "classifier([photo], train=False)": "images is list; give an array (images, height, width, 3)",
    "classifier(images[0], train=False)": "images have the shape (64, 64, 3); it must be (images, height, width, 3)",
    "fcam(images.transpose(0, 3, 1, 2), train=False)": "images have the shape (2, 3, 64, 64); it must be ",
    "fc.cams.compute('cam', classifier, images / 127.5 - 1)": "images lie in [-1, 1]; give RGB in [0, 255]: undo their",
    "fc.seeds.draw_seeds(maps, 0, foreground_count=1.5)": "foreground_count is 1.5; it must be a whole number",
    "fc.seeds.draw_seeds(maps, 0, foreground_count=2000)": "foreground_count is 2000; a map has 1024 pixels",
    "fc.seeds.draw_seeds(maps, 2**70)": "the key must be a seed",
    "fc.models.Decoder((4,), (8,), (8, 0, 4), rngs=nnx.Rngs(0))": "widths are (8, 0, 4); they must be whole numbers",
    "fc.models.Decoder((4,), (8,), 8, rngs=nnx.Rngs(0))": "widths are 8; they must be whole numbers from 1",
    "fc.evaluate(maps, boxes=[(4, 4, 20, 24)] * 2, size=32.5)": "size is 32.5; it must be a number of pixels",
    "fc.evaluate(maps, boxes=[(4, 4, 20, 24)] * 2, size=10**9)": "size is 1000000000; it must be a number of pixels",
    "fc.evaluate(maps, labels=[[0, 1], [1]], logits=np.zeros((2, 2)))": "labels has entries of several lengths",
    "fc.evaluate(maps, labels=[0, 0], logits=np.zeros((2, 1)))": "logits are of one class, whose top-1 is always 100",
    "fc.losses.log_barrier(1.0, t='x')": "t is 'x'; it must be above 0",
    "fc.train(None, 'x')": "config is None; it must be a path",
    "fc.train({}, 'x')": "config is {}; it must be a path",
    "fc.train('synthetic', None)": "workdir is None; it must be a path",
    "fc.train('synthetic', 'x', ['a'])": "values is ['a']; it must have values by key, such as {'fcam.epochs': 2}",
    "fc.train('synthetic', 'x', {3: 1})": "values is {3: 1}; it must have values by key",
    "fc.train('synthetic', 'x', {'fcam.epochs': 'x'})": "config.fcam.epochs=x: it must be a whole number",
    "fc.train('nothing', 'x')": "config: no such benchmark file: 'nothing'",
    "fc.train('synthetic', '/dev/null')": "workdir=/dev/null cannot be used: ",
    "fc.train('synthetic', 'x', split='x')": "unknown split 'x'; known: test, train, val",
}
SHAPES = {
    "[one.shape for one in found.maps]": [[60, 80], [40, 80]],
    "by_cam.labels": [3],
    "cams.shape": [2, 64, 64],
    "seeds.shape": [2, 64, 64],
    "bool(np.isfinite(loss))": True,
    "model(photo, label=np.int64(2)).labels": [2],  # a number of NumPy is a label, too
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What the last block of the page prints, what mistakes are answered with, and the shapes of what was made."""
    command = [sys.executable, "-c", READER, PAGE, json.dumps(list(MISTAKES)), json.dumps(list(SHAPES))]
    environment = os.environ | {"XLA_FLAGS": QUICKLY_COMPILED, "PYTHONPATH": str(ROOT)}
    folder = tmp_path_factory.mktemp("api")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_page_runs_in_order_and_mistakes_are_answered_as_it_says(read):
    block, printed = read["last"]
    assert printed == [line.removeprefix("# ") for line in block.splitlines() if line.startswith("# ")]


def test_what_the_page_makes_has_the_shapes_that_it_says(read):
    assert dict(zip(SHAPES, read["shapes"], strict=True)) == SHAPES


@pytest.mark.parametrize("call", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_argument(read, call):
    answer = read["answers"][call]
    assert answer.startswith(f"InputError: {MISTAKES[call]}") and "\n" not in answer and "--" not in answer
