"""Inputs: pictures (B, 3, H, W) to what the backbone sees (B, C, H, W). One mechanism a file.

Contract: built with `height`, `width`, `view` (ground or aerial), `polar` (whether the aerial view is a polar map),
`column0_heading` (degrees) and its options; `.out_channels`. Where that is not 3, the backbone is built
with `in_channels`.
"""
