"""Attention: reweights features (B, C, H, W). One mechanism a file.

Contract: built with `channels`, `height`, `width`, `wrap` (whether azimuth, the last dimension, wraps around) and its
options; `forward(features, mask (B, H, W) bool or None)` gives the features and the attention map (B, H, W) or None;
`any_grid = True` where it takes grids of any size.
"""
