"""Many runs as one job: what they are, which are done, which classifiers they share, and their figures together."""
