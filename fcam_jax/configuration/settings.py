"""The settings that are no component's and no room's own: what the parts of a configuration hold besides choices.

Every part is a frozen dataclass with the published settings of F-CAM on CUB as its defaults; the meanings are what the
help of the command line says.
"""

import dataclasses

from fcam_jax.component import at_least, is_number, known
from fcam_jax.errors import InputError
from fcam_jax.models.token_neck import NECKS

INIT_HEAD = {"drop": False, "keep": True}
LAST_STAGES = ("classifier", "fcam")
DTYPES = ("float32", "bfloat16")
DECODER_CENTER = {"yes": True, "no": False, "encoder": None}
CONVENTIONS = ("protocol", "fcam", "percentile")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What holds for the whole run.

    Attributes:
      seed: initial weights, order and crops of images, seeds and landmarks.
      last_stage: "fcam", or "classifier" for no F-CAM on it.
      log_steps: steps between two lines of the metric log.
      components: files outside of the package that register chosen components; the program fills them in.
    """

    seed: int = 0
    last_stage: str = "fcam"
    log_steps: int = 10
    components: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least(self, seed=0, log_steps=1)
        known(self, last_stage=LAST_STAGES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The networks.

    Attributes:
      encoder: what makes the classifier's maps.
      final_stride: side of the image over the side of the top map: 8, 16 or 32; a transformer brings its patch.
      dilate: dilate the layers behind removed strides, so that they compute what they did, at more places.
      init: weights of the classifier: a file, a folder, or by name, timm:NAME, torchvision:NAME, hub:ORG/REPO[:FILE];
        without any it is trained from scratch.
      init_head: the classification layer in it: "drop" (start with a new one) or "keep".
      decoder_widths: channels of the decoder's blocks, from the top stage to the image; none: the paper's.
      decoder_center: two more convolutions on the top stage: "yes", "no", or "encoder", as the paper has for it.
      decoder_neck: maps of falling stride out of a transformer's tokens: "reassemble" or "pyramid"; others need none.
      dtype: of the computation: "float32" or "bfloat16"; parameters stay float32.
    """

    encoder: str = "resnet50"
    final_stride: int = 8
    dilate: bool = False
    init: str = ""
    init_head: str = "drop"
    decoder_widths: tuple[int, ...] = ()
    decoder_center: str = "encoder"
    decoder_neck: str = "reassemble"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        known(self, init_head=INIT_HEAD, dtype=DTYPES, decoder_center=DECODER_CENTER, decoder_neck=NECKS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """The classification layer.

    Attributes:
      name: of the head; "wgap" where the method of stage 1 has a head of its own.
    """

    name: str = "wgap"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CamSettings:
    """The CAM: baseline of stage 1, and where stage 2 takes its seeds from.

    Attributes:
      name: of the CAM.
      stages: "stage1" is the one of the highest resolution; several are fused; none: the top one.
      convention: how the baseline's map is brought to image size: "protocol", "fcam" or "percentile".
      cache: the seeds' CAM once for each whole training image, not for every crop at every step.
      cache_dir: where these, or `fcam.features`, are kept, for several runs to share; empty: in the run's folder.
    """

    name: str = "cam"
    stages: tuple[str, ...] = ()
    convention: str = "protocol"
    cache: bool = False
    cache_dir: str = ""

    def __post_init__(self) -> None:
        known(self, convention=CONVENTIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierStage:
    """Stage 1.

    Attributes:
      method: how the classifier is trained.
      from_run: folder of a run whose classifier is taken instead of training one.
      epochs: length of its training.
      new_layers_factor: on the learning rate of layers that are not pretrained.
      frozen_norms: BatchNorm of the encoder keeps the statistics of model.init while it is trained.
    """

    method: str = "cam"
    from_run: str = ""
    epochs: int = 50
    new_layers_factor: float = 10.0
    frozen_norms: bool = False

    def __post_init__(self) -> None:
        at_least(self, epochs=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FcamStage:
    """Stage 2.

    Attributes:
      init: weights of a trained decoder, as for model.init; without any it is trained from scratch.
      epochs: length of its training.
      classifier_factor: on the learning rate of the classifier, where it is trained, too.
      remedy: where maps flood or vanish, go back to the last sound epoch with a quarter of the CRF's weight, once.
      features: fixed crops of every training image, of which what the classifier makes is computed once and kept; 0:
        new crops at every step.
      pictures_epochs: epochs between two pictures of what training sees; 0: none.
    """

    init: str = ""
    epochs: int = 50
    classifier_factor: float = 0.1
    remedy: bool = False
    features: int = 0
    pictures_epochs: int = 5

    def __post_init__(self) -> None:
        at_least(self, epochs=0, classifier_factor=0, features=0, pictures_epochs=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FcamSearch:
    """Settings of F-CAM that the run finds itself, by short trainings before its own.

    Attributes:
      start: updates with the first of the values below, from where all candidates go on.
      updates: of each candidate from there; 0: nothing is searched for.
      by: figure on `val` that compares candidates; where it is not known, the one that chooses the best model does.
      crf: factors on `fcam.loss.crf.weight`, the first one to begin with; without boxes none above it is tried.
      background_fraction: likewise on `fcam.seeds.background_fraction`.
      color: values to try of `fcam.color.share`, likewise; without boxes the first one is taken.
    """

    start: int = 20
    updates: int = 0
    by: str = "MaxBoxAccV2"  # the mean of three shares of images: less noise than in one
    crf: tuple[float, ...] = (1.0, 3.3, 0.2)
    background_fraction: tuple[float, ...] = (1.0, 1.5)
    color: tuple[float, ...] = (0.0, 0.5, 1.0)

    def __post_init__(self) -> None:
        at_least(self, start=0, updates=0)
        for name in ("crf", "background_fraction", "color"):
            factors = getattr(self, name)
            if not factors or not all(is_number(factor) and factor >= 0 for factor in factors):
                raise InputError(f"{name} is {factors}; it must hold numbers of at least 0")

    def options(self, *, by_boxes: bool = True) -> dict[str, tuple[float, ...]]:
        """The values to try, by setting; none where nothing is searched for.

        Without boxes what judges is colour itself: shares of colour are not compared, nor CRFs stronger than the first
        one, which lower the cut whatever they leave of the object.
        """
        crf, color = self.crf, self.color
        if not by_boxes:
            crf, color = tuple(factor for factor in crf if factor <= crf[0]), color[:1]
        found = {"crf": crf, "background_fraction": self.background_fraction, "color": color}
        return found if self.updates else {}
