"""ILSVRC 2012 (ImageNet), the protocol's largest benchmark: 1,000 classes, 1,281,167 / 10,000 / 50,000 images.

    python -m fcam_jax.main --config=configs/ilsvrc.py:resnet50,cam --workdir=runs/ilsvrc \\
        --config.data.root=DATA --config.model.init=resnet50.pth --config.model.init_head=keep

The argument chooses by name, in any order: `encoder=vgg16,cam=layercam,method=has` (docs/methods.md), or
`encoder,cam`; without it, ResNet50, CAM and its plain training. `DATA` is what `fcam prepare` wrote
(docs/data/ilsvrc.md); `init` is torchvision's ImageNet file of the encoder, whose classes are these.

The F-CAM paper has no figures on it, so there are none to expect. To know where a run stands: the centre baseline of
the evaluation protocol has MaxBoxAcc 54.1 and MaxBoxAccV2 53.4 on test (Choe et al., CVPR 2020).

Settings: the protocol's 10 epochs with a third party's unverified rates for the classifier; F-CAM as on CUB, for as
many epochs. Boxes here are larger than CUB's, so n- is from the middle of its range. The rates are tuned for CAM, not
for the other methods, whose rates are not published: `configs/sweeps/search.py` looks for them.
"""

from ml_collections import ConfigDict

from fcam_jax.configuration import choose, defaults

CLASSIFIER_RATES = {"vgg16": 1.654502e-5, "resnet50": 3.108411e-5, "inceptionv3": 3.606503e-4}


def get_config(args: str = "") -> ConfigDict:
    """The protocol's settings; `args` as for `choose`."""
    config = defaults()
    config.data.name = "ILSVRC"
    choose(config, "source=tfds", ("source",))
    config.data.tfds = "ilsvrc_wsol"
    config.data.num_classes = 1000
    choose(config, args)
    config.log_steps = 100
    config.classifier.epochs = 10
    rate = CLASSIFIER_RATES.get(config.model.encoder, CLASSIFIER_RATES["resnet50"])
    config.classifier.optimizer.update(learning_rate=rate, decay_epochs=3)
    if config.classifier.method == "fsl":
        config.classifier.fsl.images_per_class = 10  # the protocol's
    config.fcam.epochs = 10
    config.fcam.seeds.background_fraction = 0.4
    return config
