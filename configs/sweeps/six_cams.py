"""The paper's six CAMs on the embedded data set, three seeds each: what F-CAM makes of each.

    fcam sweep --sweep=six_cams --workdir=runs/six_cams

18 runs of two minutes on 2 CPU cores. With the argument `shared` (`six_cams.py:shared`) the CAMs of a seed share the
classifier that is best for `cam`, and 12 runs train F-CAM alone.
"""

from fcam_jax.runs.sweeps.sweep_file import SweepRun

CAMS = ("cam", "gradcam", "gradcampp", "smooth_gradcampp", "xgradcam", "layercam")
SEEDS = (0, 1, 2)


def get_runs(args: str) -> list[SweepRun]:
    """A run for every CAM and seed; `args` is "" or "shared"."""
    if args not in ("", "shared"):
        raise ValueError(f"the argument is shared or none, not {args!r}")
    return [
        SweepRun(
            name=f"{cam}-s{seed}",
            config="synthetic",
            overrides={"cam.name": cam, "seed": seed},
            classifier_of=f"cam-s{seed}" if args == "shared" and cam != "cam" else None,
        )
        for cam in CAMS
        for seed in SEEDS
    ]
