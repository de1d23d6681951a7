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
    """Settings that two CPU cores train within two minutes; `args` chooses "cam" and "method"."""
    config = defaults()
    choose(config, "source=synthetic,encoder=small", ("source", "encoder"))
    choose(config, args, ("cam", "method"))
    config.data.num_classes = 8
    config.data.resize, config.data.size = 72, 64
    config.data.synthetic.train = 2000
    config.data.synthetic.val = 200
    config.data.synthetic.test = 500
    if config.model.encoder == "small":
        config.model.decoder_widths = (64, 48, 32, 16)
    config.classifier.epochs = 9
    config.classifier.new_layers_factor = 1.0
    config.classifier.optimizer.decay_epochs = 7
    of_method = config.classifier.get(config.classifier.method, {})
    if "width" in of_method:
        of_method.width = 64
    if "window" in of_method:  # of maps of 8 x 8 cells
        of_method.window = 5
    # At 0.05 side branches diverge, windows leave the map, and a shape shrinks to nothing.
    rates = {"spg": 0.02, "cstn": 0.005, "gcnet": 0.002, "psol": 0.2}
    config.classifier.optimizer.learning_rate = rates.get(config.classifier.method, 0.05)
    if config.classifier.method == "psol":  # small errors teach slowly
        config.classifier.epochs, config.classifier.optimizer.decay_epochs = 30, 25
    if config.classifier.method == "fsl":  # two steps an epoch
        config.classifier.epochs, config.classifier.optimizer.decay_epochs = 60, 45
    config.fcam.epochs = 7
    config.fcam.optimizer.update(learning_rate=0.1, decay_epochs=5)
    config.fcam.seeds.update(background_fraction=0.5, foreground_count=64, background_count=64)
    # A CAM of 8 x 8 cells finds the mark and covers what lies beside it; a body has one colour.
    config.fcam.color.update(share=1.0, stride=2)
    config.fcam.loss.crf.update(weight=8e-9, start=80)
    config.evaluation.batch_size = 40
    return config
