"""From a CAM to the few pseudo-labelled pixels that train the decoder (F-CAM, Eq. 1 and 2)."""
