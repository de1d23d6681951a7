"""Table 1 of the paper: six CAMs and F-CAM on each, with three encoders, on CUB and OpenImages.

    fcam sweep --sweep=table1 --workdir=runs/table1 --only='cub-resnet50-*'

36 runs, one seed. It looks for the data in data/CUB and data/OpenImages and for torchvision's files as
weights/resnet50.pth, weights/vgg16.pth and weights/inceptionv3.pth, from where it is called; links will do.

The published protocol keeps for every CAM the epoch of the classifier that is best for it, and so does this sweep.
With the argument `shared` (`table1.py:shared`) the CAMs of an encoder share the classifier that is best for `cam`: 6
classifiers are trained instead of 36, and the figures of the other CAMs are not the protocol's.
"""

from fcam_jax.runs.sweeps.sweep_file import SweepRun

DATA = {"cub": "data/CUB", "openimages": "data/OpenImages"}
ENCODERS = ("resnet50", "vgg16", "inceptionv3")
CAMS = ("cam", "gradcam", "gradcampp", "smooth_gradcampp", "xgradcam", "layercam")


def get_runs(args: str) -> list[SweepRun]:
    """A run for every data set, encoder and CAM; `args` is "" or "shared"."""
    if args not in ("", "shared"):
        raise ValueError(f"the argument is shared or none, not {args!r}")
    return [
        SweepRun(
            name=f"{benchmark}-{encoder}-{cam}",
            config=f"{benchmark}:{encoder},{cam}",
            overrides={"data.root": root, "model.init": f"weights/{encoder}.pth"},
            classifier_of=f"{benchmark}-{encoder}-cam" if args == "shared" and cam != "cam" else None,
        )
        for benchmark, root in DATA.items()
        for encoder in ENCODERS
        for cam in CAMS
    ]
