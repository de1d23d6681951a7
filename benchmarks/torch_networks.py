"""The classifiers of `fcam_jax.models` once more in plain torch.nn, for `benchmarks.train` to run them eagerly.

Same layers, widths and strides; class scores of uint8 images of ImageNet's mean and deviation. Batches are NCHW.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def conv_bn(channels_in: int, channels_out: int, side: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias and BatchNorm."""
    layer = nn.Conv2d(channels_in, channels_out, side, stride, side // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(channels_out)]


class Residual(nn.Module):
    """relu(F(x) + x), with a projection of x where its shape changes."""

    def __init__(self, branch: list[nn.Module], channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(*branch)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_bn(channels_in, channels_out, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """The block's map."""
        return torch.relu(self.branch(x) + self.shortcut(x))


def basic(channels_in: int, width: int, stride: int) -> Residual:
    """Two 3x3 convolutions."""
    branch = [*conv_bn(channels_in, width, 3, stride), nn.ReLU(), *conv_bn(width, width, 3)]
    return Residual(branch, channels_in, width, stride)


def bottleneck(channels_in: int, width: int, stride: int) -> Residual:
    """1x1 to `width` channels, 3x3 with the stride, 1x1 to four times as many."""
    branch = [*conv_bn(channels_in, width, 1), nn.ReLU(), *conv_bn(width, width, 3, stride), nn.ReLU()]
    return Residual([*branch, *conv_bn(width, 4 * width, 1)], channels_in, 4 * width, stride)


def resnet50() -> tuple[list[nn.Module], int]:
    """Layers up to a top map of 1/8, and its channels."""
    layers: list[nn.Module] = [*conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 1), (512, 3, 1)):
        for position in range(depth):
            layers.append(bottleneck(channels, width, stride if position == 0 else 1))
            channels = 4 * width
    return layers, channels


def vgg16() -> tuple[list[nn.Module], int]:
    """Layers with three max-pools and the 3x3 convolution to 1024 channels on top."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 512, 512, 512, 1024):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    return layers, channels


def mobilenet(width: float) -> tuple[list[nn.Module], int]:
    """MobileNetV1 with three strides of 2 before a top map of 1/8."""
    channels = int(32 * width)
    layers: list[nn.Module] = [*conv_bn(3, channels, 3, 2), nn.ReLU6()]
    strides = {128: 2, 256: 2}
    for filters in (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024):
        out = int(filters * width)
        stride = strides.pop(filters, 1)
        layers += [
            *conv_bn(channels, channels, 3, stride, channels),
            nn.ReLU6(),
            *conv_bn(channels, out, 1),
            nn.ReLU6(),
        ]
        channels = out
    return layers, channels


def small() -> tuple[list[nn.Module], int]:
    """The package's own small network."""
    stem, quarter, eighth, top = 16, 32, 64, 128
    layers = [*conv_bn(3, stem, 3, 2), nn.ReLU(), basic(stem, quarter, 2), basic(quarter, eighth, 2)]
    return [*layers, *conv_bn(eighth, top, 1), nn.ReLU()], top


NETWORKS: dict[str, Callable[[], tuple[list[nn.Module], int]]] = {
    "resnet50": resnet50,
    "vgg16": vgg16,
    "small": small,
    **{f"mobilenet_v1_{int(100 * w):03}": (lambda w=w: mobilenet(w)) for w in (0.25, 0.5, 0.75, 1.0)},
}


class Classifier(nn.Module):
    """Normalisation, network, global average pooling and a linear layer."""

    def __init__(self, name: str, classes: int):
        super().__init__()
        layers, channels = NETWORKS[name]()
        self.network = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, classes)
        self.register_buffer("mean", torch.tensor((123.675, 116.28, 103.53)).view(3, 1, 1))
        self.register_buffer("std", torch.tensor((58.395, 57.12, 57.375)).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Class scores."""
        return self.fc(self.network((images.float() - self.mean) / self.std).mean(dim=(2, 3)))


class EagerTraining:
    """The usual training loop without any compilation: a step is forward, backward, SGD with Nesterov's momentum.

    Args:
      name: of `NETWORKS`.
      classes: number of class scores.
      images: a batch, uint8 NHWC.
      labels: its classes.
      dtype: "float32", or "bfloat16" by autocast.
      channels_last: memory layout of maps and kernels, NHWC in the place of NCHW.
    """

    def __init__(self, name: str, classes: int, images: object, labels: object, dtype: str, *, channels_last: bool):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.images = torch.tensor(images).permute(0, 3, 1, 2).to(self.device).contiguous(memory_format=layout)
        self.labels = torch.tensor(labels).long().to(self.device)
        self.model = Classifier(name, classes).to(self.device, memory_format=layout)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, nesterov=True
        )
        self.half = dtype == "bfloat16"

    def steps(self, count: int) -> None:
        """So many steps on the one batch; returns when they are done."""
        for _ in range(count):
            self.optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                loss = nn.functional.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
            self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
