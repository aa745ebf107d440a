"""Base models, one module each: `load(options, *, device, precision)`, `fingerprint`, `problems`.

`name: x` in `conf/base/` is the module `lorasweep/bases/x.py`. This folder is the one door to diffusers and
transformers; importing a module here imports neither, only `load` does.
"""
