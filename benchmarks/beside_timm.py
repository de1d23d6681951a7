"""Every encoder beside the network of timm or torchvision whose weights it takes, in one run: what it is, how fast.

Run from the repository's root, where torch, timm and torchvision are installed:
``taskset -c 0 python -m benchmarks.beside_timm --json=encoders.json --page=docs/models.md``.

The other network gets random weights, and the encoder the same ones through a file and the loader. ``parity`` is the
largest difference of the class scores of images of the weights' side, as a share of the largest score. ``map`` and
``offset`` are of the top map at 224 pixels, at the published final stride and at 8: its side, and
how many pixels right of an even grid its cells lie.

``forward`` are class scores in inference mode and ``step`` a whole training step (cross-entropy, gradients of all
parameters, SGD with momentum), both at the published stride, compiled here and eager there; runs of the two alternate.
The ratio is the other's time over ours: above 1 ours is faster. ``rate``: share of the machine's rate of matrix
products. FLOP are counted by PyTorch, in the other network, 2 a multiply-add. On one core the threads of neither side
wait for each other.
"""

import argparse
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import timm
import torch
import torchvision
from flax import nnx
from safetensors.numpy import save_file
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoders import CLASSES, forward, matmul_rate, random_batch, training
from benchmarks.train import alternate
from fcam_jax.errors import InputError
from fcam_jax.models import ENCODERS, create_model
from fcam_jax.models.create import published_stride
from fcam_jax.models.pretrained import published
from fcam_jax.runtime.files import replace_file
from tools.publication.pages import filled

SIDE = 224
# What timm calls a network of the same layers, where no weights of timm are published for the encoder.
ALSO = {f"mobilenet_v1_{name}": f"mobilenetv1_{name}" for name in ("100",)}
TITLES = "encoder|parameters|parity|map|offset|GFLOP|forward ms|timm's|ratio|rate %|step ms|timm's|ratio|rate %"
BLOCKS = ("beside timm", "programs")  # of the page


def counterpart(name: str, side: int | None = None) -> torch.nn.Module | None:
    """The network of timm, else of torchvision, whose weights an encoder takes; None where there is none."""
    names = [weights.name for weights in published(ENCODERS[name])]
    of_timm = next((one.removeprefix("timm:") for one in names if one.startswith("timm:")), ALSO.get(name))
    if of_timm is not None:
        sized = {"img_size": side} if side is not None and of_timm.startswith(("vit_", "deit_")) else {}
        return timm.create_model(of_timm, pretrained=False, num_classes=CLASSES, **sized)
    if any(one.startswith("torchvision:VGG16") for one in names):
        network = torchvision.models.vgg16(num_classes=CLASSES)
        network.avgpool, network.classifier = torch.nn.Identity(), torch.nn.Sequential()
        # As F-CAM's: the last pools removed, one more convolution, and a linear layer on its mean.
        kept = [layer for index, layer in enumerate(network.features) if index not in (23, 30)]
        pool = torch.nn.AdaptiveAvgPool2d(1)
        return torch.nn.Sequential(
            *kept, torch.nn.Conv2d(512, 1024, 3, padding=1), torch.nn.ReLU(), pool, torch.nn.Flatten(),
            torch.nn.Linear(1024, CLASSES),
        )  # fmt: skip
    return None


def randomised(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """The state of a network with random values by which activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if key.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.ndim >= 2:
                tensor.copy_(noise * (1 / tensor[0].numel()) ** 0.5)
            elif tensor.is_floating_point():
                tensor.copy_(0.1 * noise + float(key.endswith("weight")))
    return {key: np.ascontiguousarray(tensor.numpy()) for key, tensor in network.state_dict().items()}


def parity(name: str, network: torch.nn.Module) -> float | None:
    """Largest difference of the class scores over the largest score; None where the files' names are others'."""
    side = (getattr(network, "default_cfg", None) or {}).get("input_size", (3, SIDE, SIDE))[1]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.safetensors")
        save_file(randomised(network), path)
        try:
            model = create_model(name, path)
        except InputError:
            return None
    images = np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype(np.uint8)
    mean, std = np.array(model.encoder.mean), np.array(model.encoder.std)
    inputs = torch.from_numpy(((images - mean) / std).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        expected = network.eval()(inputs).numpy()
    found = jax.device_get(nnx.jit(lambda model, x: model(x, train=False)[1])(model, images))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def eager(network: torch.nn.Module, images: torch.Tensor) -> dict[str, Callable[[int], None]]:
    """The other network's forward pass and training step, so many times."""
    labels = torch.arange(len(images)) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def scores(count: int) -> None:
        network.eval()
        with torch.inference_mode():
            for _ in range(count):
                network(images)

    def steps(count: int) -> None:
        network.train()
        for _ in range(count):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

    return {"forward": scores, "step": steps}


def compiled(model: Any, batch: int) -> dict[str, Callable[[int], None]]:
    """Ours."""
    found: dict[str, Callable[[int], None]] = {}
    batches = random_batch(batch, SIDE)
    for mode, make in (("forward", forward), ("step", training)):
        workload = make(model, batches)
        program = workload.function.trace(*workload.arguments).lower().compile()
        state = [workload.arguments[0]]

        def run(count: int, program: Any = program, workload: Any = workload, state: list[Any] = state) -> None:
            for _ in range(count):
                result = program(state[0], *workload.arguments[1:])
                state[0] = result[0] if workload.carried else state[0]
            jax.block_until_ready(result)

        found[mode] = run
    return found


def gigaflops(network: torch.nn.Module) -> float:
    """Of a forward pass of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, SIDE, SIDE))
    return counter.get_total_flops() / 1e9


def trained_stride(name: str) -> int:
    """The final stride of the published network; VGG16 has no top of its own but F-CAM's, whose map is of 1/8."""
    return 8 if name == "vgg16" else published_stride(ENCODERS[name])


def maps(name: str) -> tuple[str, str]:
    """Side and offset of the top map at 224 pixels: at the published final stride, and at 8."""
    build = ENCODERS[name]
    strides = dict.fromkeys((trained_stride(name), 8))
    found: list[tuple[str, str]] = []
    for stride in strides:

        def top(image: jax.Array, stride: int = stride) -> jax.Array:
            encoder = build(final_stride=stride, rngs=nnx.Rngs(0))
            found.append(("", f"{encoder.offset(SIDE):.1f}"))
            return encoder.map_of(encoder(image, train=False)[-1])

        try:
            shape = jax.eval_shape(top, jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)).shape
        except InputError:
            continue  # a transformer has one stride, its patch
        found[-1] = (str(shape[1]), found[-1][1])
    sides, offsets = zip(*found, strict=True)
    return ", ".join(sides), ", ".join(offsets)


def measure(name: str, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of an encoder's line."""
    network = counterpart(name)
    side, offset = maps(name)
    stride = trained_stride(name)
    abstract = nnx.eval_shape(lambda: ENCODERS[name](final_stride=stride, rngs=nnx.Rngs(0)))
    figures: dict[str, Any] = {
        "encoder": name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param))),
        "map": side,
        "offset": offset,
    }
    if network is None:
        return figures
    linear = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    head = linear[-1].weight.numel() + CLASSES if linear and linear[-1].out_features == CLASSES else 0
    figures["theirs"] = sum(parameter.numel() for parameter in network.parameters()) - head
    figures["parity"] = parity(name, network)
    network = counterpart(name, SIDE)
    model = create_model(name, num_classes=CLASSES, final_stride=stride)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((options.batch, 3, SIDE, SIDE), generator=generator)
    theirs, ours = eager(network, images), compiled(model, options.batch)
    figures["GFLOP"] = gigaflops(network)
    for mode, passes in (("forward", 1), ("step", 3)):
        contest = {"ours": ours[mode], "theirs": theirs[mode]}
        seconds = alternate(contest, options.seconds, options.repeats)
        figures[mode] = {who: 1e3 * value for who, value in seconds.items()}
        figures[mode]["rate"] = passes * figures["GFLOP"] * 1e9 * options.batch / seconds["ours"] / rate
    return figures


def row(line: dict[str, Any]) -> str:
    """A line of the table; what was not measured is blank."""
    count = f"{line['parameters']:,}"
    if line.get("theirs") not in (None, line["parameters"]):
        count += f" (timm: {line['theirs']:,})"
    agreement = line.get("parity")
    cells = [
        f"`{line['encoder']}`",
        count,
        "" if agreement is None else f"{agreement:.0e}",
        line["map"],
        line["offset"],
    ]
    cells.append(f"{line['GFLOP']:.1f}" if "GFLOP" in line else "")
    for mode in ("forward", "step"):
        if times := line.get(mode):
            cells += [f"{times['ours']:.0f}", f"{times['theirs']:.0f}", f"{times['theirs'] / times['ours']:.2f}"]
            cells.append(f"{100 * times['rate']:.0f}")
        else:
            cells += [""] * 4
    return f"| {' | '.join(cells)} |"


def table(data: dict[str, Any]) -> str:
    """The table in Markdown, with the machine."""
    titles = TITLES.split("|")
    rule = ["---", *("--:" for _ in titles[1:])]
    lines = [f"| {' | '.join(titles)} |", f"|{'|'.join(rule)}|", *map(row, data["lines"])]
    facts = "{cores} core(s), batch {batch}, jax {jax}, timm {timm}, torch {torch}".format(**data["machine"])
    return "\n".join([f"{facts}; {data['machine']['rate']:.0f} GFLOP/s of matrix products:", "", *lines])


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", type=functools.partial(str.split, sep=","), default=[*ENCODERS])
    parser.add_argument("--batch", type=int, default=4, help="images of a step")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the median is taken")
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing for each of the two")
    parser.add_argument("--json", type=pathlib.Path, help="keep the lines there, and go on with them")
    parser.add_argument("--page", type=pathlib.Path, help=f"a page whose block 'encoders {BLOCKS[0]}' is filled")
    return parser.parse_args()


def main() -> None:
    """Print a line for every encoder."""
    options = parse()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    data: dict[str, Any]
    if options.json and options.json.exists():
        data = json.loads(options.json.read_text())
    else:
        versions = {"jax": jax.__version__, "timm": timm.__version__, "torch": torch.__version__}
        products = matmul_rate("float32", "default", options.repeats) / 1e9
        data = {"machine": {"cores": cores, "batch": options.batch, "rate": products, **versions}, "lines": []}
    rate = 1e9 * data["machine"]["rate"]
    done = {line["encoder"] for line in data["lines"]}
    for name in options.encoders:
        if name not in done:
            data["lines"].append(measure(name, rate, options))
            print(row(data["lines"][-1]), flush=True)
            jax.clear_caches()
            if options.json:
                options.json.write_text(json.dumps(data, indent=1) + "\n")
    order = list(ENCODERS)
    data["lines"].sort(key=lambda line: order.index(line["encoder"]))
    if options.page:
        page = str(options.page)
        replace_file(options.page, filled(options.page.read_text(), page, "encoders", BLOCKS, lambda _: table(data)))
    else:
        print(table(data))


if __name__ == "__main__":
    main()
