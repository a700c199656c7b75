"""Aggregators: features (B, C, H, W) to one L2-normalised descriptor (B, D). One mechanism a file.

Contract: built with `channels`, `height`, `width` and its options; `.descriptor_size`; `.azimuth_columns` where the
descriptor is a row of azimuth columns; `any_grid = True` where it takes any grid; `rolls = True` where it is made
to be rolled although padding does not wrap; `pretrained`, which of its weights a backbone's file has under which name;
`forward(features, mask (B, H, W) bool or None)`.
"""
