"""Reads a doll's picture back into attributes, identity marks and nuisances: ground truth for metrics.

`reader.Reader.load()` brings the shipped classifier, of torch; its `read(images)` returns a `Reading`.
"""
