"""The first 50 classes of CUB, 1,250 / 250 / 1,389 images, with an ImageNet MobileNetV1 0.75: real birds on a CPU.

    python -m fcam_jax.main --config=configs/cub50.py --workdir=runs/cub50 \\
        --config.data.root=DIR --config.model.init=mobilenet_v1_075_224_imagenet.safetensors

The argument `gpu` (`configs/cub50.py:gpu`) takes 224 pixels instead of 128 and trains longer; `cam=layercam,method=has`
choose CAM and training of stage 1 (docs/methods.md).
`DIR` holds `images/` and `metadata/{train,val,test}/` in the format of Choe et al.; `init` is a Keras-named file.
Twenty-five minutes on one core of a recent server. To expect on the 1,389 test birds, MaxBoxAcc: CAM 59 to 62, F-CAM
82 to 85 (setting `cpu`, three seeds; docs/results.md, which also says how the settings were found); a centred box of
0.6 of each side reaches 55.7. The setting `gpu` has not been run.
"""

from ml_collections import ConfigDict

from fcam_jax.configuration import choose, defaults
from fcam_jax.errors import InputError

DEVICES = ("cpu", "gpu")


def get_config(args: str = "") -> ConfigDict:
    """The setting for a CPU, or for a GPU; `args` chooses "device", "cam" and "method"."""
    config = defaults()
    choose(config, "encoder=mobilenet_v1_075", ("encoder",))
    device = choose(config, args, ("device", "cam", "method")).get("device", "cpu")
    if device not in DEVICES:
        raise InputError(f"configs/cub50.py takes the device cpu or gpu, not {device!r}")
    config.data.num_classes = 50
    if config.classifier.method == "danet":
        config.classifier.danet.hierarchy = "cub"
    config.classifier.optimizer.update(learning_rate=0.003, decay_epochs=0)
    bas = config.classifier.method in ("bas", "bas_extension")
    if bas or config.classifier.method in ("spol", "spol_segmenter"):  # which put stages of other cells together
        config.model.final_stride = 32
    if bas:  # its head dies at that rate
        config.classifier.optimizer.learning_rate = 0.001
    config.fcam.seeds.background_fraction = 0.6
    config.fcam.seeds.foreground_count = 8  # more than of the background: the map's values reach further towards 1
    config.fcam.seeds.background_count = 4
    config.fcam.loss.crf.weight = 2e-8
    config.fcam.loss.crf.start = 40  # so strong, it may flood a map that does not know the object yet
    if device == "cpu":
        of_method = config.classifier.get(config.classifier.method, {})
        if "width" in of_method:
            of_method.width = 256
        if "window" in of_method:
            of_method.window = 7
        config.data.resize, config.data.size = 146, 128
        config.model.decoder_widths = (128, 64, 32, 32, 16)
        config.classifier.epochs = 16 if bas else 8
        config.fcam.epochs = 4
        config.fcam.optimizer.decay_epochs = 3
        config.fcam.seeds.dilation = 0.0234  # 3 pixels
        config.fcam.loss.crf.stride = 8
    return config
