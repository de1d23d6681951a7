"""What is trained. A method says how a batch is scored by a loss, and how a trained model localizes.

`METHODS` are the ways to train stage 1, in the order of the tables.
"""

from fcam_jax.component import Registry
from fcam_jax.methods.acol import ACoL
from fcam_jax.methods.adl import ADL
from fcam_jax.methods.bas import BAS, BASExtension
from fcam_jax.methods.baselines import Pretrained
from fcam_jax.methods.classifier import ClassifierTraining, Plain
from fcam_jax.methods.cstn import CSTN
from fcam_jax.methods.danet import DANet
from fcam_jax.methods.eil import EIL, MEIL
from fcam_jax.methods.few_shot import FewShot
from fcam_jax.methods.frozen import LOST, Frozen, TokenCut
from fcam_jax.methods.gcnet import GCNet
from fcam_jax.methods.i2c import I2C
from fcam_jax.methods.icl_form import ICLForm
from fcam_jax.methods.mixing import CutMix, HaS
from fcam_jax.methods.nl_ccam import NLCCAM
from fcam_jax.methods.psol import PSOL
from fcam_jax.methods.sat import SAT
from fcam_jax.methods.scm import SCM
from fcam_jax.methods.spg import SPG
from fcam_jax.methods.spol import SPOL
from fcam_jax.methods.spol_segmenter import SPOLSegmenter
from fcam_jax.methods.trilite import TriLite
from fcam_jax.methods.tscam import TSCAM

METHODS: Registry[type[ClassifierTraining]] = Registry(
    "method",
    {
        "cam": Plain,
        "has": HaS,
        "acol": ACoL,
        "spg": SPG,
        "adl": ADL,
        "cutmix": CutMix,
        "i2c": I2C,
        "nl_ccam": NLCCAM,
        "danet": DANet,
        "eil": EIL,
        "meil": MEIL,
        "icl_form": ICLForm,
        "bas": BAS,
        "bas_extension": BASExtension,
        "gcnet": GCNet,
        "cstn": CSTN,
        "spol": SPOL,
        "spol_segmenter": SPOLSegmenter,
        "psol": PSOL,
        "fsl": FewShot,
        "tscam": TSCAM,
        "scm": SCM,
        "sat": SAT,
        "frozen": Frozen,
        "tokencut": TokenCut,
        "lost": LOST,
        "trilite": TriLite,
        "pretrained": Pretrained,
    },
)
