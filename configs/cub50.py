"""The first 50 classes of CUB, 1,250 / 250 / 1,389 images: real birds on a CPU, with encoders from ImageNet.

    python -m fcam_jax.main --config=configs/cub50.py --workdir=runs/cub50 \\
        --config.data.root=DIR --config.model.init=timm:tf_efficientnet_lite0

The argument chooses by name: `encoder=mobilenet_v1_075,cam=layercam,method=has` (docs/methods.md), or `encoder,cam`.
`cam=layercam` brings the stage of EfficientNet-Lite0 that suits it. `DIR` holds `images/` and
`metadata/{train,val,test}/` in the format of Choe et al.; `init` is an ImageNet file of the encoder.
docs/results.md has what to expect of EfficientNet-Lite0 on the 1,389 test birds, and how long it takes;
docs/history.md the same of MobileNetV1 0.75.
"""

from ml_collections import ConfigDict

from fcam_jax.configuration import choose, defaults

SMALL, FINE = "mobilenet_v1_075", "efficientnet_lite0"
WIDTHS = (128, 64, 32, 32, 16)  # of the decoder; the paper's are up to twice as wide


def get_config(args: str = "") -> ConfigDict:
    """Settings that suit a CPU: MobileNetV1 0.75 at 128 pixels, others at 224; `args` as for `choose`."""
    config = defaults()
    choose(config, f"encoder={FINE}", ("encoder",))
    choose(config, args)
    config.data.num_classes = 50
    if config.classifier.method == "danet":
        config.classifier.danet.hierarchy = "cub"
    config.fcam.loss.crf.stride = 8
    if config.model.encoder == SMALL:
        _at_128(config)
    else:
        _at_224(config)
    if config.classifier.method in ("bas", "bas_extension", "spol", "spol_segmenter"):
        config.model.final_stride = 32  # they put stages of other cells together
    return config


def _at_224(config: ConfigDict) -> None:
    config.data.batch_size = 16
    # Crops of 224 pixels; whole images, and what is tested, of 320: the maps are as fine as those of larger crops.
    config.data.resize, config.data.size, config.data.test_size = 320, 224, 320
    config.validation.selection = "last"
    config.fcam.loss.crf.update(weight=3e-8, sigma_xy=40.0, start=40)  # it may flood what does not know the object yet
    # So little data: the pretrained layers learn slowly, by ImageNet's statistics, under a new head that learns fast.
    if config.model.encoder == FINE:  # not all encoders take another stride, or have statistics
        config.model.final_stride = 16
        config.classifier.frozen_norms = True
        config.model.decoder_widths = WIDTHS
        if config.cam.name == "layercam":
            config.cam.stages = ("stage4",)  # finer cells than those of the top stage
            config.fcam.loss.crf.weight = 1e-8  # finer cells leave less to it
    config.classifier.optimizer.update(learning_rate=0.001, decay_epochs=4)
    config.classifier.new_layers_factor = 100.0
    config.classifier.epochs = 6
    config.fcam.optimizer.update(learning_rate=0.04, decay_epochs=0)
    config.fcam.epochs = 1
    config.fcam.seeds.background_fraction = 0.4
    config.fcam.seeds.foreground_count = config.fcam.seeds.background_count = 16


def _at_128(config: ConfigDict) -> None:
    config.data.resize, config.data.size = 146, 128
    config.model.decoder_widths = WIDTHS
    of_method = config.classifier.get(config.classifier.method, {})
    if "width" in of_method:
        of_method.width = 256
    if "window" in of_method:
        of_method.window = 7
    config.classifier.optimizer.update(learning_rate=0.003, decay_epochs=0)
    config.classifier.epochs = 8
    if config.classifier.method in ("bas", "bas_extension"):  # its head dies at that rate
        config.classifier.optimizer.learning_rate = 0.001
        config.classifier.epochs = 16
    config.fcam.optimizer.decay_epochs = 3
    config.fcam.epochs = 4
    config.fcam.seeds.background_fraction = 0.6
    config.fcam.seeds.foreground_count = 8  # more than of the background: the map's values reach further towards 1
    config.fcam.seeds.background_count = 4
    config.fcam.seeds.dilation = 0.0234  # 3 pixels
    config.fcam.loss.crf.update(weight=2e-8, start=40)  # it may flood a map that does not know the object yet
