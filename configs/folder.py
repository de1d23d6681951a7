"""Your own images in a folder; docs/data/own.md shows the layouts that are understood.

    python -m fcam_jax.main --config=configs/folder.py:resnet50,layercam --workdir=runs/mine \\
        --config.data.root=DIR --config.model.init=torchvision:resnet50

The argument chooses by name, in any order: `encoder=vgg16,cam=layercam,method=has` (docs/methods.md), or
`encoder,cam`; without it, ResNet50, CAM and its plain training. The number of classes is the data's. Without
boxes or masks nothing is known of places: the model is then chosen by its classes, and the last sound decoder is taken.

Settings: those of CUB with a shorter training and more seeds of each image. An epoch has at least 40 updates, so few
images are gone through several times. The CRF's weight and n- are found by the run itself before it trains the decoder
(docs/seeds.md); with boxes a stronger CRF and the share of colour in the seeds are tried, too. What matters most
besides: `classifier.optimizer.learning_rate`, and what docs/poor_results.md says.
"""

from ml_collections import ConfigDict

from fcam_jax.configuration import choose, defaults


def get_config(args: str = "") -> ConfigDict:
    """Settings to start from; `args` as for `choose`."""
    config = defaults()
    config.data.num_classes = 0
    choose(config, args)
    if config.model.encoder.startswith("efficientnet_lite"):
        config.model.final_stride = 16  # few images do not teach it to see at 8 what ImageNet taught it at 32
    config.train.least_updates = 40
    config.classifier.epochs = 20
    config.classifier.optimizer.decay_epochs = 8
    config.fcam.epochs = 6
    config.fcam.optimizer.decay_epochs = 5
    config.fcam.seeds.update(background_fraction=0.4, foreground_count=8, background_count=8)
    config.fcam.loss.crf.update(weight=6e-9, start=20, stride=6)
    config.fcam.color.stride = 6
    config.fcam.search.updates = 20
    config.fcam.remedy = True
    return config
