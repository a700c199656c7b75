"""Backbones: pictures (B, 3, H, W) to features (B, C, h, w). One family a file.

Contract: built with its options alone; `.out_channels`, `.stride`; optionally `.mean` and `.std` of its input in 0..1
(ImageNet's unless given), `imagenet_weights()`, and `discarded`: prefixes of a weights file's keys that it leaves out.
"""
