"""The embedded data set: objects of 8 classes on textured backgrounds, drawn from a seed; no files, no network.

    python -m fcam_jax.main --config=configs/synthetic.py --workdir=runs/demo

The argument chooses CAM and training of stage 1 (docs/methods.md): `configs/synthetic.py:method=has,cam=layercam`.

Two minutes on 2 CPU cores; README.md has the figures to expect.

A class is a small mark on a body that all classes share, so a CAM finds the mark while box and mask cover the body: the
problem of weakly supervised localization in small.
"""

from ml_collections import ConfigDict

from fcam_jax.configuration import choose, defaults


def get_config(args: str = "") -> ConfigDict:
    """Settings that two CPU cores train within five minutes; `args` chooses "cam" and "method"."""
    config = defaults()
    choose(config, "source=synthetic,encoder=small", ("source", "encoder"))
    choose(config, args, ("cam", "method"))
    config.data.num_classes = 8
    config.data.resize, config.data.size = 72, 64
    config.data.synthetic.train = 2000
    config.data.synthetic.val = 200
    config.data.synthetic.test = 500
    config.model.decoder_widths = (32, 16, 16, 8)
    config.classifier.epochs = 12
    config.classifier.new_layers_factor = 1.0
    config.classifier.optimizer.update(learning_rate=0.05, decay_epochs=9)
    if config.classifier.method == "acol":
        config.classifier.acol.width = 64
    if config.classifier.method == "spg":  # its side branches diverge at the rate of the others
        config.classifier.optimizer.learning_rate = 0.02
    if config.classifier.method == "fsl":  # two steps an epoch
        config.classifier.epochs, config.classifier.optimizer.decay_epochs = 60, 45
    config.fcam.epochs = 6
    config.fcam.optimizer.update(learning_rate=0.05, decay_epochs=4)
    config.fcam.seeds.background_fraction = 0.3
    config.fcam.seeds.dilation = 0.047  # 3 pixels
    # A CAM of 8 x 8 cells overlaps the body's surroundings: its seeds count less, colour and size count more.
    config.fcam.loss.seeds.weight = 0.2
    config.fcam.loss.crf.weight = 3e-9
    config.fcam.loss.size.weight = 0.2
    config.evaluation.batch_size = 40
    return config
