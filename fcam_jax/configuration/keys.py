"""The keys that every benchmark has, with the published settings of F-CAM on CUB as their values.

A benchmark starts from `defaults()` and says where it differs. A run meets no other defaults: those of functions are
for calls without a configuration. Settings of CAMs, methods and constraints stand with them and are taken from there.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict, config_dict

from fcam_jax.cams.registry import CAMS, default_settings
from fcam_jax.component import defaults_of
from fcam_jax.data import SOURCES
from fcam_jax.data.settings import DataSettings
from fcam_jax.errors import InputError, unknown_name
from fcam_jax.evaluation.settings import EvaluationSettings, ValidationSettings
from fcam_jax.losses.constraints import CONSTRAINTS
from fcam_jax.losses.constraints import default_settings as settings_of_constraint
from fcam_jax.methods import METHODS


def defaults() -> ConfigDict:
    """All keys of a configuration; it is locked, so a benchmark cannot add a misspelt one."""
    config = ConfigDict()
    config.seed = 0  # initial weights, order and crops of images, seeds and landmarks
    config.last_stage = "fcam"  # "classifier": without F-CAM on it
    config.log_steps = 10  # steps between two lines of the metric log

    config.data = ConfigDict(defaults_of(DataSettings))
    for name, source in SOURCES.items():  # what is a source's own: docs/data/pipeline.md
        own = {key: value for key, value in defaults_of(source).items() if key not in config.data}
        if own:
            config.data[name] = ConfigDict(own)

    config.model = ConfigDict()
    config.model.encoder = "resnet50"
    config.model.final_stride = 8  # side of the image over the side of the top map: 8, 16 or 32
    config.model.head = ConfigDict()
    config.model.head.name = "wgap"  # "wgap", or a head with a map of its own: "gap", "max", "lse", "wildcat"
    config.model.head.wgap = ConfigDict()
    config.model.head.gap = ConfigDict({"background": False})  # background: one more map, not a class
    config.model.head.max = ConfigDict({"background": False})
    config.model.head.lse = ConfigDict({"background": False, "r": 10.0})
    config.model.head.wildcat = ConfigDict({"background": False, "modalities": 5})
    config.model.head.wildcat.kmax = 0.5  # share, or above 1 number, of the highest positions
    config.model.head.wildcat.kmin = 0.1  # and of the lowest
    config.model.head.wildcat.alpha = 0.6  # weight of the lowest
    config.model.init = ""  # weight file, or folder, of the classifier; without one it is trained from scratch
    config.model.init_head = "drop"  # the classification layer in it: "drop" (start with a new one) or "keep"
    config.model.decoder_widths = (256, 128, 64, 32, 16)
    config.model.decoder_center = False  # two more convolutions on the top stage, as the paper's VGG16 has
    config.model.dtype = "float32"  # of the computation: "float32" or "bfloat16"; parameters stay float32

    config.cam = ConfigDict()
    config.cam.name = "cam"  # baseline of stage 1 and seed source of stage 2
    config.cam.stages = ()  # "stage1" is the one of the highest resolution; several are fused; none: the top one
    config.cam.convention = "protocol"  # how the baseline's map is brought to image size: "protocol" or "fcam"
    config.cam.cache = False  # the seeds' CAM once for each whole training image, not for every crop at every step
    config.cam.cache_dir = ""  # where these are kept, for several runs to share; empty: in the run's folder
    for name in CAMS:  # what they mean and their published values: docs/cams.md
        config.cam[name] = ConfigDict(default_settings(name))

    config.classifier = ConfigDict()
    config.classifier.method = "cam"  # "cam", "has", "acol", "spg", "adl", "cutmix", "fsl" or "pretrained"
    for name in METHODS:  # what they mean and their published values: docs/methods.md
        config.classifier[name] = ConfigDict(defaults_of(METHODS[name]))
    config.classifier.epochs = 50
    config.classifier.new_layers_factor = 10.0  # on the learning rate of layers that are not pretrained
    config.classifier.optimizer = sgd(learning_rate=0.0017, decay_epochs=15)

    config.fcam = ConfigDict()
    config.fcam.init = ""  # weight file, or folder, of a trained decoder; without one it is trained from scratch
    config.fcam.epochs = 50
    config.fcam.optimizer = sgd(learning_rate=0.01, decay_epochs=0)
    config.fcam.classifier_factor = 0.1  # on the learning rate of the classifier, where it is trained, too
    config.fcam.pictures_epochs = 5  # epochs between two pictures of what training sees; 0: none
    config.fcam.seeds = ConfigDict()
    config.fcam.seeds.background_fraction = 0.7  # n-
    config.fcam.seeds.foreground_count = 1
    config.fcam.seeds.background_count = 1
    config.fcam.seeds.erosion = 11  # odd side in pixels
    config.fcam.seeds.dilation = 3  # odd side in pixels
    config.fcam.seeds.threshold = "otsu"  # what the foreground lies above: "otsu", "li" or "fixed"; docs/seeds.md
    config.fcam.seeds.fixed_threshold = 0.5  # of "fixed": share of the CAM's range
    config.fcam.seeds.draw = "uniform"  # over a region's pixels, or over its "blocks"
    config.fcam.seeds.block_size = 32  # of "blocks": side in pixels
    config.fcam.loss = ConfigDict()
    config.fcam.loss.seeds = term(weight=1.0)  # alpha
    config.fcam.loss.crf = term(weight=1.2e-9)  # lambda at 224 x 224; the released 2e-9 on a filter of 0.6 amplitude
    config.fcam.loss.crf.sigma_xy = 100.0  # pixels at 224 x 224
    config.fcam.loss.crf.sigma_rgb = 15.0  # levels of 255
    config.fcam.loss.crf.form = "landmarks"  # or "exact", the sum over all pairs of pixels: docs/dense_crf.md
    config.fcam.loss.crf.stride = 4  # a landmark stands for stride x stride pixels
    config.fcam.loss.crf.scale = 1.0  # share of the sides of map and image at which it is computed
    config.fcam.loss.crf.amplitude = "exact"  # "released": 0.6 of it, for which the published weight 2e-9 was tuned
    config.fcam.loss.crf.kernel = "auto"  # how its sums are computed: "xla", "pallas", or as suits the device
    config.fcam.loss.size = term(weight=0.1)
    config.fcam.loss.size.barrier_start = 1.0  # t
    config.fcam.loss.size.barrier_rate = 1.01
    config.fcam.loss.size.barrier_limit = 10.0
    for name in CONSTRAINTS:  # further constraints, with the size's t: docs/constraints.md
        config.fcam.loss[name] = term(weight=0.0)
        config.fcam.loss[name].update(settings_of_constraint(name))
    config.fcam.loss.entropy = term(weight=0.0)  # of every pixel's regions, in nats: makes the map decide
    config.fcam.loss.reconstruction = term(weight=0.0)  # of the image, by a second head of the decoder
    config.fcam.loss.classification = term(weight=0.0)  # above 0 the classifier is trained together with the decoder

    config.train = ConfigDict()  # docs/scaling.md
    config.train.accumulate = 1  # parts of a batch that a device takes one after the other, for one update
    config.train.remat = False  # less memory for more time: maps are computed again for the gradients
    config.train.checkpoint_steps = 1000  # steps between two checkpoints within an epoch; 0: at the ends of epochs only
    config.train.watchdog_seconds = 300.0  # a standstill of so long is told, with what is waited for; 0: never

    config.validation = ConfigDict(defaults_of(ValidationSettings))
    config.evaluation = ConfigDict(defaults_of(EvaluationSettings))
    return config.lock()


def choices(args: str, names: Sequence[str]) -> dict[str, str]:
    """What the argument of a file chooses, by name.

    Args:
      args: "name=value" with commas between, in any order; a value without its name is that of the name in its place
        ("encoder,cam", ",cam").
      names: what can be chosen, in the order of values without a name.

    Raises:
      InputError: a name that cannot be chosen, or one that is chosen twice.
    """
    chosen: dict[str, str] = {}
    for place, part in enumerate(args.split(",")):
        name, named, value = part.rpartition("=")
        if not named and not value:
            continue
        if not named:
            if place >= len(names):
                raise InputError(f"the argument {args!r} has more values than there are names: {', '.join(names)}")
            name = names[place]
        if name not in names:
            raise unknown_name(f"name in the argument {args!r}:", name, names)
        if name in chosen:
            raise InputError(f"the argument {args!r} chooses {name} twice")
        chosen[name] = value
    return chosen


def choose(config: ConfigDict, args: str, names: Sequence[str] = ("encoder", "cam", "method")) -> dict[str, str]:
    """Choose encoder, CAM and training of stage 1 by `choices`; a VGG16 gets the decoder that the paper has for it."""
    chosen = choices(args, names)
    config.model.encoder = chosen.get("encoder", config.model.encoder)
    config.cam.name = chosen.get("cam", config.cam.name)
    config.classifier.method = chosen.get("method", config.classifier.method)
    if config.model.encoder == "vgg16":
        config.model.decoder_widths = (256, 128, 64)
        config.model.decoder_center = True
    if (config.model.encoder, config.classifier.method) == ("inceptionv3", "acol"):
        config.model.decoder_widths = (256, 128, 64, 32)  # its heads stand in the place of the top stage
    return chosen


def sgd(learning_rate: float, decay_epochs: int) -> ConfigDict:
    """Settings of SGD; a rate that decays by 10 every `decay_epochs` epochs, never where that is 0."""
    return ConfigDict(
        {
            "learning_rate": learning_rate,
            "decay_epochs": decay_epochs,
            "decay_rate": 0.1,
            "momentum": 0.9,
            "weight_decay": 1e-4,
        }
    ).lock()


def term(weight: float) -> ConfigDict:
    """A term of the loss; it counts from `start_epoch` up to, not including, `end_epoch` (None: to the end)."""
    return ConfigDict({"weight": weight, "start_epoch": 0, "end_epoch": config_dict.placeholder(int)})
