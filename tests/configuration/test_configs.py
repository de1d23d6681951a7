"""Every benchmark file builds, has the known keys, and what cannot be built is said in one line before any training."""

import importlib
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import FAMILIES
from flax import nnx

from configs import cub, synthetic
from configs.sweeps import search
from fcam_jax.cams import CAMS
from fcam_jax.cams.score_maps import CONVENTIONS
from fcam_jax.component import defaults_of
from fcam_jax.configuration import configuration, defaults, override
from fcam_jax.configuration.components import CHOICES
from fcam_jax.configuration.flat import flat_settings
from fcam_jax.errors import InputError
from fcam_jax.methods import METHODS
from fcam_jax.models import ENCODERS
from fcam_jax.runs import build
from fcam_jax.seeds.sampling import THRESHOLDS

NAMES = sorted(path.stem for path in (pathlib.Path(__file__).resolve().parents[2] / "configs").glob("[!_]*.py"))
# The decoder's widths in cub.py are for five stages, "small" has four; resnet101 is resnet50 with more blocks.
CUB_ENCODERS = sorted({*FAMILIES} - {"small"})
PAPERS = ("vgg16", "inceptionv3", "resnet50")
VARIANTS = [
    *((name, ()) for name in NAMES),
    *(("cub50", (encoder,)) for encoder in ("mobilenet_v1_075", "vgg16", "deit_tiny")),
    ("cub", ("mobilenet_v1_025,layercam",)),
    *(pytest.param("cub", (encoder,), marks=pytest.mark.long) for encoder in CUB_ENCODERS),
    *(
        ("synthetic", (f"method={name}",))
        for name, way in METHODS.items()
        if way.has_classes and not way.default_encoder
    ),
    *(("cub", (f"method={method}",)) for method in ("sat", "trilite")),  # on transformers
    *(("cub", (f"method={method},encoder={encoder}",)) for method in ("acol", "spg") for encoder in PAPERS),
]


def keys(config, prefix=""):
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def get_config(name, args=()):
    return importlib.import_module(f"configs.{name}").get_config(*args)


def changed(config, **values):
    """The configuration with other values; a double underline in a name stands for a dot."""
    return override(config, {name.replace("__", "."): value for name, value in values.items()})


def small_synthetic(**values):
    splits = {"data__synthetic__train": 8, "data__synthetic__val": 4, "data__synthetic__test": 4}
    return changed(synthetic.get_config(), data__batch_size=4, **splits | values)


def complaint(config):
    with pytest.raises(InputError) as caught:
        build.experiment(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_the_keys_of_the_defaults_and_no_others(name):
    config = get_config(name)
    same = override(defaults(), {key: value for key, value in flat_settings(config.to_dict()) if key in CHOICES})
    assert set(keys(config)) == set(keys(same))


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize(("name", "args"), VARIANTS)
def test_the_stages_of_a_benchmark_can_be_built(name, args, bird_folder):
    config = get_config(name, args)
    if config.data.source != "synthetic":
        changed(config, data__source="folder", data__root=str(bird_folder), data__batch_size=4)
    config = build.resolved(config)
    first, second = build.experiment(config).stages
    model = nnx.eval_shape(lambda: second.build_model(first.build_model(None)))
    side, classes = config.data.size, config.data.num_classes
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.uint8)
    _, logits, maps = nnx.eval_shape(lambda model, images: model(images, train=False), model, images)
    assert logits.shape == (2, classes) and maps.shape == (2, side, side, 2)


def test_cub_takes_encoder_and_cam():
    config = cub.get_config("mobilenet_v1_075,layercam")
    assert (config.model.encoder, config.cam.name) == ("mobilenet_v1_075", "layercam")
    assert cub.get_config(",layercam").model.encoder == cub.get_config().model.encoder == "resnet50"


@pytest.mark.parametrize(
    ("name", "args", "chosen"),
    [
        ("cub", "method=has,encoder=vgg16,cam=layercam", ("vgg16", "layercam", "has")),
        ("cub", "cam=layercam", ("resnet50", "layercam", "cam")),
        ("openimages", "vgg16,method=spg", ("vgg16", "cam", "spg")),
        ("ilsvrc", "resnet18,gradcam,adl", ("resnet18", "gradcam", "adl")),
        ("cub50", "cam=layercam,method=acol", ("efficientnet_lite0", "layercam", "acol")),
        ("cub50", "mobilenet_v1_075,method=cutmix", ("mobilenet_v1_075", "cam", "cutmix")),
        ("synthetic", "method=fsl", ("small", "cam", "fsl")),
        ("synthetic", "method=tscam", ("deit_small", "gradcam", "tscam")),
        ("cub", "method=lost,cam=layercam", ("dino_vits16", "layercam", "lost")),
    ],
)
def test_a_benchmark_takes_named_arguments_in_any_order(name, args, chosen):
    config = get_config(name, (args,))
    assert (config.model.encoder, config.cam.name, config.classifier.method) == chosen
    assert (config.data.size == 128) == (args == "mobilenet_v1_075,method=cutmix")


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("encoder", FAMILIES)
def test_an_encoder_s_name_is_enough(encoder, bird_folder):
    config = get_config("cub", (encoder,))
    plan = build.experiment(changed(config, data__source="folder", data__root=str(bird_folder), data__batch_size=4))
    model = nnx.eval_shape(lambda: plan.stages[0].build_model(None))
    assert model.encoder.strides[-1] == config.model.final_stride


def test_an_encoder_brings_its_stride_and_cam_but_not_over_those_that_are_chosen():
    def brought(config, *args, **keys):
        found = configuration(f"{config}:{','.join(args)}", {key.replace("__", "."): one for key, one in keys.items()})
        return found.model.final_stride, found.cam.name

    assert brought("cub", "deit_tiny") == brought("cub", model__encoder="deit_tiny") == (16, "gradcam")
    assert brought("cub", "dinov2_vits14") == (14, "gradcam") and brought("cub", "vgg16") == (8, "cam")
    assert brought("cub", "deit_tiny", model__encoder="resnet18") == (8, "cam")
    assert brought("cub", "deit_tiny,cam=layercam") == (16, "layercam")
    assert brought("cub", "cam=layercam", model__encoder="deit_tiny") == (16, "layercam")
    assert brought("cub", "cam=cam", model__encoder="deit_tiny", model__final_stride="8") == (8, "cam")
    assert brought("cub", "deit_tiny", cam__name="cam") == brought("cub", "deit_tiny", "cam") == (16, "cam")
    sixteen = override(cub.get_config("resnet18"), {"model.final_stride": 16})
    assert override(sixteen, {"model.encoder": "vgg16"}).model.final_stride == 16


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("cub", "a,b,c,d", "the argument 'a,b,c,d' has more values than there are names: encoder, cam, method"),
        ("cub", "methd=has", "unknown name in the argument 'methd=has': 'methd'; known: cam, encoder, method"),
        ("synthetic", "encoder=vgg16", "unknown name in the argument 'encoder=vgg16': 'encoder'; known: cam, method"),
        ("cub", "vgg16,encoder=resnet50", "the argument 'vgg16,encoder=resnet50' chooses encoder twice"),
        ("cub50", "device=gpu", "unknown name in the argument 'device=gpu': 'device'; known: cam, encoder, method"),
    ],
)
def test_a_mistake_in_the_argument_is_one_line(name, args, message):
    with pytest.raises(InputError) as caught:
        get_config(name, (args,))
    assert str(caught.value) == message


@pytest.mark.parametrize(("name", "images"), [("cub", 5), ("openimages", 5), ("ilsvrc", 10)])
def test_the_few_shot_baseline_has_the_protocols_images(name, images):
    assert get_config(name, ("method=fsl",)).classifier.fsl.images_per_class == images


@pytest.mark.parametrize("method", METHODS)
def test_trials_of_the_search_are_in_its_space_and_the_same_every_time(method):
    trials = [search.trial_settings(method, 0, trial) for trial in range(200)]
    assert trials == [search.trial_settings(method, 0, trial) for trial in range(200)]
    assert trials[0] != search.trial_settings(method, 1, 0) and trials[0] != trials[1]
    rates = np.log10([trial["classifier.optimizer.learning_rate"] for trial in trials])
    assert rates.min() >= -5 and rates.max() <= 0 and abs(rates.mean() + 2.5) < 4 * 5 / (12 * 200) ** 0.5
    assert {trial["model.final_stride"] for trial in trials} == {8, 16}
    for trial in trials:  # every setting of the method but these, within the range that its method takes
        settings = {key.removeprefix(f"classifier.{method}."): value for key, value in trial.items() if method in key}
        fixed = {"grid", "width", "images_per_class", "num_classes", "seeds", "raster"}
        fixed |= {"distillation", "maps", "foreground", "background", "classifier", "shape", "area_weight"}
        fixed |= {"stochastic_weight", "global_weight"}
        if method in (*search.SHARES, *search.PAIRS):
            assert settings.keys() == defaults_of(METHODS[method]).keys() - fixed
        assert settings.keys() <= defaults_of(METHODS[method]).keys()
        for value in settings.values():
            assert not isinstance(value, tuple) or value[0] >= value[1]
        METHODS[method](**settings)


@pytest.mark.slow
def test_splits_come_from_the_folder(bird_folder):
    plan = build.experiment(changed(cub.get_config(), data__root=str(bird_folder), data__batch_size=4))
    assert plan.data.sizes == {"train": 8, "val": 4, "test": 4}
    assert [stage.loop.steps_per_epoch for stage in plan.stages] == [2, 2]


def test_an_epoch_of_few_images_has_the_least_number_of_updates(caplog):
    def steps(**values):
        caplog.clear()
        plan = build.experiment(small_synthetic(data__synthetic__train=10, **values))
        return {stage.loop.steps_per_epoch for stage in plan.stages}, plan

    with caplog.at_level("INFO"):
        found, plan = steps(train__least_updates=40)
        assert found == {40} and plan.stages[1].loop.steps == 7 * 40
        assert caplog.messages == ["an epoch is 40 updates: 16 passes over 10 images (train.least_updates)"]
        for least in (1, 3):  # 10 images in batches of 4
            assert steps(train__least_updates=least)[0] == {3} and not caplog.messages
    assert get_config("folder").train.least_updates == 40


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("data.source", ["folder", "synthetic", "tfds"]),
        ("data.on_error", ["fail", "skip"]),
        ("model.encoder", ENCODERS),
        ("model.dtype", ["bfloat16", "float32"]),
        ("cam.name", CAMS),
        ("cam.convention", CONVENTIONS),
        ("fcam.seeds.threshold", ["fixed", "li", "otsu"]),
        ("fcam.seeds.draw", ["blocks", "uniform"]),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_exist(key, known):
    with pytest.raises(InputError) as caught:
        build.experiment(small_synthetic(**{key: "nothing"}))
    ways = (f"unknown config.{key} 'nothing'", f"config.{key} is 'nothing'")
    assert str(caught.value) in [f"{way}; known: {', '.join(sorted(known))}" for way in ways]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("log_steps", 0),
        ("data.batch_size", 0),
        ("data.batch_size", 9),
        ("data.size", 0),
        ("data.test_size", -1),
        ("data.num_classes", -1),
        ("evaluation.batch_size", 0),
        ("evaluation.pictures", -1),
        ("evaluation.threshold_step", 0.0),
        ("validation.threshold_step", 2.0),
        ("classifier.epochs", -1),
        ("fcam.epochs", -1),
        ("fcam.seeds.erosion", 11.0),
        ("fcam.seeds.background_fraction", 1.5),
        ("fcam.loss.crf.stride", 0),
        ("fcam.loss.bounds.lower", -0.5),
        ("fcam.loss.bounds.upper", 1.5),
        ("fcam.loss.reconstruction.weight", -1.0),
        ("fcam.loss.classification.weight", -0.5),
        ("fcam.loss.crf.weight", -1e-9),
        ("fcam.loss.seeds.weight", float("nan")),
        ("fcam.loss.size.end", 0),
        ("fcam.classifier_factor", -0.1),
        ("fcam.pictures_epochs", -1),
        ("train.least_updates", 0),
        ("data.synthetic.val", 0),
    ],
)
def test_a_setting_outside_its_range_is_named(key, value):
    message = complaint(small_synthetic(**{key: value}))
    assert key.split(".")[-1] in message.replace(" ", "_") and str(value) in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cam__name": "sscam", "cam__sscam__samples": 0}, "config.cam.sscam.samples is 0; it must be at least 1"),
        (
            {"cam__stages": ("stage3",)},
            "config.cam.stages hold 'stage3'; CAM is the head's own map: it takes stage4 alone",
        ),
        (
            {"cam__name": "gradcampp", "cam__gradcampp__variant": "mine"},
            "config.cam.gradcampp.variant is 'mine'; known: paper, released",
        ),
        (
            {"cam__name": "rollout"},
            "config.cam.name=rollout: Attention rollout is made of the blocks' attention, and the network has none: "
            "take a transformer, or another CAM such as 'gradcam'",
        ),
    ],
)
def test_settings_of_the_chosen_cam_are_checked_before_any_training(settings, message):
    assert complaint(small_synthetic(**settings)) == message


def test_both_stages_get_the_chosen_cam_with_its_settings():
    settings = {"cam__name": "smooth_gradcampp", "cam__smooth_gradcampp__variant": "released"}
    plan = build.experiment(small_synthetic(cam__stages=("stage4", "stage2"), **settings))
    classifier, fcam = (stage.method for stage in plan.stages)
    assert fcam.cam.training == classifier.training
    for fused in (classifier.cam, fcam.cam.cam):
        assert fused.stages == (1, 3)
        assert fused.cam == CAMS["smooth_gradcampp"](variant="released", samples=4, std=0.3)


def test_decoder_widths_that_do_not_fit_the_encoder_are_told_before_any_training():
    few = complaint(small_synthetic(model__decoder_widths=(8, 8)))
    assert few.startswith("config.model.decoder_widths are 8, 8, 2 of them")
    assert complaint(small_synthetic(model__decoder_widths=(8, 8, 8, 8, 8))).endswith(
        "from this encoder's top stage to the image there are 4 blocks, which need one each"
    )
    build.experiment(small_synthetic(model__decoder_widths=()))  # the paper's


def test_a_missing_data_root_names_the_key():
    assert "data.root" in complaint(cub.get_config())
    assert complaint(changed(cub.get_config(), data__root="/no/where")).startswith("/no/where: no such folder")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"classifier__method": "has"},
            "classifier.method=has trains the classifier in a way of its own; "
            "set the weight to 0, or classifier.method=cam",
        ),
        ({"cam__cache": True}, "cam.cache keeps CAMs of the classifier as it was before: set cam.cache=False"),
        ({"fcam__features": 2}, "fcam.features keeps maps of the classifier as it was before: set fcam.features=0"),
    ],
)
def test_what_joint_training_does_not_go_with_is_told_before_any_training(settings, message):
    joint = {"fcam__loss__classification__weight": 0.5}
    assert complaint(small_synthetic(**joint, **settings)) == f"fcam.loss.classification.weight is 0.5, but {message}"
    build.experiment(small_synthetic(**settings))
    build.experiment(small_synthetic(**joint, **settings, last_stage="classifier"))


def test_features_are_not_kept_of_images_that_change_nor_cams_twice():
    twice = complaint(small_synthetic(fcam__features=2, cam__cache=True))
    assert twice == "fcam.features keeps the CAMs of its crops, too: set cam.cache=False"
    changing = complaint(small_synthetic(fcam__features=2, data__augment="blur"))
    assert changing.endswith("which data.augment=blur changes at every step: set one of them to nothing")
    kept = build.experiment(small_synthetic(fcam__features=2)).frozen
    assert kept.count == 2 * len(build.experiment(small_synthetic()).data.sources["train"])
    assert kept.key == "fcam.features" and build.experiment(small_synthetic()).frozen is None


@pytest.mark.slow
def test_further_terms_change_what_is_built_and_trained():
    off = build.experiment(small_synthetic()).stages[1]
    weights = {f"fcam__loss__{name}__weight": 0.5 for name in ("entropy", "reconstruction", "classification")}
    on = build.experiment(small_synthetic(**weights, fcam__classifier_factor=0.3)).stages[1]
    assert (on.method.alignment.terms["entropy"].weight, on.method.learning_rate_factor(("classifier", "head"))) == (
        0.5,
        0.3,
    )
    trained = []
    for stage in (off, on):
        first = build.experiment(small_synthetic()).stages[0]
        model = nnx.eval_shape(lambda first=first, stage=stage: stage.build_model(first.build_model(None)))
        paths = nnx.to_flat_state(nnx.split(model, stage.method.trainable, ...)[1])
        trained.append({path[:2] for path, _ in paths})
    assert trained[1] - trained[0] == {
        ("decoder", "reconstruction"),
        ("classifier", "head"),
        ("classifier", "encoder"),
    }


def test_an_optimizer_is_chosen_by_its_name_and_brings_its_settings():
    config = changed(small_synthetic(), classifier__optimizer__name="adamw", classifier__optimizer__adamw__beta1=0.5)
    assert config.classifier.optimizer.adamw.to_dict() == {"beta1": 0.5, "beta2": 0.999}
    assert "sgd" not in config.classifier.optimizer and config.fcam.optimizer.sgd.momentum == 0.9
    first, second = build.experiment(config).stages
    counts = [len(jax.tree.leaves(stage.optimizer().init({"encoder": jnp.zeros(2)}))) for stage in (first, second)]
    assert counts == [4, 2]  # two means and two numbers of steps, one momentum and one
    assert complaint(changed(config, fcam__optimizer__decay_epochs=-1)).startswith("config.fcam.optimizer.decay_epochs")
    with pytest.raises(
        InputError, match=r"config\.fcam\.optimizer\.name 'adam'; did you mean|known: adamw, adamw_cosine, sgd"
    ):
        changed(config, fcam__optimizer__name="adam")


def test_a_file_that_registers_the_threshold_of_the_seeds_is_recorded(monkeypatch):
    def mine(counts, settings):
        return counts.argmax(axis=1)

    monkeypatch.setitem(THRESHOLDS, "mine", mine)  # so that it goes again
    monkeypatch.setattr(THRESHOLDS, "files", {})
    THRESHOLDS.register("mine")(mine)
    assert changed(small_synthetic(), fcam__seeds__threshold="mine").components == (__file__,)
    assert changed(small_synthetic(), fcam__seeds__threshold="li").components == ()


def test_a_file_without_end_is_no_benchmark(tmp_path):
    path = tmp_path / "sparse.py"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(InputError, match="larger than the 16 MiB"):
        configuration(str(path), {})
