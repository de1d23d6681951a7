"""CUB-200-2011, the paper's first benchmark: 200 bird species, 5,994 / 1,000 / 5,794 images.

    python -m fcam_jax.main --config=configs/cub.py:resnet50,cam --workdir=runs/cub \\
        --config.data.root=CUB --config.model.init=resnet50.safetensors

The argument is `encoder` or `encoder,cam`; without it, ResNet50 and CAM. `CUB` holds the photographs under `images/`
and the metadata of Choe et al. (CUBV2 as validation split) under `metadata/{train,val,test}/`; `init` is a
torchvision-named file.

To expect (F-CAM, WACV 2022, Table 1, MaxBoxAcc on test): ResNet50 and CAM 71.5, with F-CAM 90.3; LayerCAM 85.2, with
F-CAM 92.4.
Settings: the released program's for ResNet50 with CAM seeds; n- from the upper range that Fig. 8 prefers on CUB.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(args: str = "") -> ConfigDict:
    """The published settings; `args` is "encoder" or "encoder,cam"."""
    config = common.defaults()
    encoder, _, cam = args.partition(",")
    config.model.encoder = encoder or config.model.encoder
    config.cam.name = cam or config.cam.name
    return config
