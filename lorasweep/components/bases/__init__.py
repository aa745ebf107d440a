"""Base models, one module each: `load(options, *, device, precision)`, and what is known without torch.

That is `problems`, `fingerprint`, `noise` (what is predicted, from what noise), `weight_shapes`,
`largest_rank` and `text_window`, all of `BaseOptions`.

`name: x` in `conf/base/` is the module `lorasweep/components/bases/x.py`. This folder is the one door to diffusers and
transformers; importing a module here imports neither, only `load` does.
"""
