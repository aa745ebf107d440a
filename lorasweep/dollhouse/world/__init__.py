"""A procedural world of paper dolls: what can be seen, how it is tagged and drawn, datasets made of it.

Takes explicit seeds and generators and gives back specs, images, tags and ordinary kohya folders. Knows
nothing about torch, training or models.
"""

from lorasweep.dollhouse.world.attributes import ATTRIBUTES, FACE_MARKS, HEAD_MARKS, MARK_COLORS, SIZES_PX
from lorasweep.dollhouse.world.dataset import caption_tags, prompt_specs, prompts, undrawable, write_dataset
from lorasweep.dollhouse.world.render import render
from lorasweep.dollhouse.world.spec import NUISANCES, Spec, is_held_out, sample_spec, tags
from lorasweep.dollhouse.world.subjects import SUBJECTS, Subject

__all__ = [
    "ATTRIBUTES",
    "FACE_MARKS",
    "HEAD_MARKS",
    "MARK_COLORS",
    "NUISANCES",
    "SIZES_PX",
    "SUBJECTS",
    "Spec",
    "Subject",
    "caption_tags",
    "is_held_out",
    "prompt_specs",
    "prompts",
    "render",
    "sample_spec",
    "tags",
    "undrawable",
    "write_dataset",
]
