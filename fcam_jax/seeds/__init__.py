"""Seeds: random pixels of a CAM's foreground and background that F-CAM learns from (Sec. 2)."""

from fcam_jax.seeds.public import draw_seeds
from fcam_jax.seeds.sampling import BACKGROUND, DRAWS, FOREGROUND, THRESHOLDS, UNKNOWN, SeedSettings

__all__ = ["BACKGROUND", "DRAWS", "FOREGROUND", "THRESHOLDS", "UNKNOWN", "SeedSettings", "draw_seeds"]
