"""From score maps to figures: boxes of a map at every threshold, the two localization metrics, and the evaluator.

This is the protocol of Choe et al. (Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020).
"""
