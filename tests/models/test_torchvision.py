"""Our networks against torchvision's own, where torchvision is installed; its weights come in as a file would."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from fcam_jax.models import ENCODERS
from fcam_jax.models.classifier import Classifier
from fcam_jax.models.heads import WGAP
from fcam_jax.models.import_weights import export_weights, load_classifier
from fcam_jax.runtime.random import weight_keys

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

SIZE = (97, 110)
SETTINGS = {"inception_v3": {"init_weights": False}}


def theirs(name):
    """torchvision's network with random weights whose activations neither vanish nor explode."""
    network = getattr(models, name)(weights=None, num_classes=7, **SETTINGS.get(name, {})).eval()
    torch.manual_seed(0)
    for key, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape)
        if key.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor.ndim >= 2:
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(0.1 * noise + float(key.endswith("weight")))
    return network


def ours(name, network, folder, **settings):
    """Our network with the weights of theirs, through a file."""

    def build():
        encoder = ENCODERS[name](rngs=weight_keys(0), **settings)
        return Classifier(encoder, WGAP(encoder.channels[-1], 7, rngs=nnx.Rngs(0)))

    classifier = nnx.eval_shape(build)
    state = {key: np.ascontiguousarray(tensor.numpy()) for key, tensor in network.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    last = getattr(network, "fc", getattr(network, "classifier", None))
    same_head = getattr(last, "in_features", 0) == classifier.encoder.channels[-1]
    load_classifier(classifier, folder / "weights.safetensors", keep_head=same_head)
    return classifier


def images():
    return np.random.default_rng(0).standard_normal((2, *SIZE, 3)).astype(np.float32)


def through(module, x):
    with torch.no_grad():
        result = module(torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))).numpy()
    return result.transpose(0, 2, 3, 1) if result.ndim == 4 else result


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert np.abs(np.asarray(found) - expected).max() < 1e-5 * np.abs(expected).max()


@nnx.jit
def score(classifier, x):
    return classifier.head(classifier.encoder(x, train=False)[-1])


@pytest.mark.parametrize(
    "name, published",
    [
        ("resnet18", "resnet18"),
        ("resnet34", "resnet34"),
        ("resnet50", "resnet50"),
        ("resnet101", "resnet101"),
        ("resnet152", "resnet152"),
        ("resnext50", "resnext50_32x4d"),
        ("densenet121", "densenet121"),
        ("inceptionv3", "inception_v3"),
    ],
)
def test_class_scores_of_the_published_network(name, published, tmp_path):
    network = theirs(published)
    classifier = ours(name, network, tmp_path, final_stride=32)
    assert_same(score(classifier, images()), through(network, images()))
    network.load_state_dict({key: torch.from_numpy(array) for key, array in export_weights(classifier).items()}, False)
    assert_same(score(classifier, images()), through(network, images()))


def test_every_convolution_of_vgg16(tmp_path):
    network = theirs("vgg16")
    encoder = ours("vgg16", network, tmp_path, final_stride=32).encoder
    x = images()
    found = expected = x
    for index, (first, end) in enumerate([(0, 4), (4, 9), (9, 16), (16, 23), (23, 30)]):
        found = encoder.stage(index, jnp.asarray(found), train=False)
        expected = through(network.features[first:end], expected)
        assert_same(found, expected)


@pytest.mark.parametrize("final_stride", [8, 16])
def test_inception_for_localization_is_torchvision_s_with_padded_layers(final_stride, tmp_path):
    network = theirs("inception_v3")
    encoder = ours("inceptionv3", network, tmp_path, final_stride=final_stride).encoder
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            module.padding = (1, 1)
    stride = final_stride // 8
    a = network.Mixed_6a
    a.branch3x3.conv.stride = a.branch3x3dbl_3.conv.stride = (stride, stride)

    class Reduction(torch.nn.Module):
        def forward(self, x):
            double = a.branch3x3dbl_3(a.branch3x3dbl_2(a.branch3x3dbl_1(x)))
            return torch.cat([a.branch3x3(x), double, torch.nn.functional.max_pool2d(x, 3, stride, 1)], 1)

    pool = torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True)
    stages = [
        [network.Conv2d_1a_3x3, network.Conv2d_2a_3x3, network.Conv2d_2b_3x3],
        [pool, network.Conv2d_3b_1x1],
        [network.Conv2d_4a_3x3, pool, network.Mixed_5b, network.Mixed_5c],
        [network.Mixed_5d, Reduction(), network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e],
    ]
    found = expected = images()
    for index, layers in enumerate(stages):
        found = encoder.stage(index, jnp.asarray(found), train=False)
        expected = through(torch.nn.Sequential(*layers), expected)
        assert_same(found, expected)
