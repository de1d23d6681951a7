"""The pixel alignment loss of F-CAM (Eq. 3): partial cross-entropy, dense CRF and log-barrier, and their sum."""
