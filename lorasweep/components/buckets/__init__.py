"""Catalogue of bucket sets: which sizes images are trained at. Pure arithmetic; knows nothing about images.

`<name>.py` has `build(base, *, ...) -> tuple[Bucket, ...]`; `assign.py` chooses one of them for an image.
"""
