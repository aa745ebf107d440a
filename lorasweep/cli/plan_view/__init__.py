"""Show a plan to people and to scripts: tables, JSON, a picture of the schedules. No torch; runs nothing.

`tables.py` is the front; the others each show one side of a plan: buckets, captions, exposures,
regularization, a search's space, the learning rates as a picture.
"""
