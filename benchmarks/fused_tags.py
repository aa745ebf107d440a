"""Measure when a tag is fused with the trigger, by the share of a dataset's captions that have it.

    python -m benchmarks.fused_tags [--shares 0.2 0.5 0.8 0.95 1] [--seeds 0 1] [--steps 800]

For each share and seed a dataset of one subject is drawn on the embedded world, with `night sky` and `hat`, each
in that share of the images and of their captions, and with other things, captioned too, in the rest. A LoRA is
trained on it, and asked for the subject without a word about either (unasked), with other things in their place
(instead), and with both (asked), at weights 0.7 and 1. The world's reader says which pictures show them, and how far
the subject's hair, eyes and skin are to be seen. What is trained already (LORASWEEP_HOME) is not trained again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

SUBJECT = "zkw"
IMAGES = 20  # 95 % of them is one less than all
TAGS = {"night sky": ("background", "beach"), "hat": ("accessory", "glasses")}  # tag -> attribute, what else
WORDS = ["blue dress, standing", "red coat, waving", "white kimono, outstretched arms", "black armor, standing"]
PLAIN = [f"{SUBJECT}, 1girl, {words}" for words in WORDS]
PROMPTS = {
    "unasked": PLAIN,
    "instead": [f"{prompt}, {', '.join(other for _, other in TAGS.values())}" for prompt in PLAIN],
    "asked": [f"{prompt}, {', '.join(TAGS)}" for prompt in PLAIN],
}
CELLS = (("unasked", 0.7), ("unasked", 1.0), ("instead", 1.0), ("asked", 0.7))  # prompts, weight
NOISES = 4
OVERRIDES = [
    *("optimizer.lr=4e-3", "train.rungs=1", "train.keep=last", "dataset.holdout=0", "metrics=[]", "tracking=none"),
    *("sample.weights=[0.7]", "sample.seeds=[0]", 'dataset.prompts={in_distribution: ["zkw, 1girl"]}'),
]


def draw_dataset(root: Path, share: float, seed: int) -> None:
    """Draw the subject with each tag in a share of the images, the two independent of each other."""
    import numpy as np

    from lorasweep.dollhouse import world
    from lorasweep.dollhouse.world.dataset import caption_tags, sample_subject_spec

    subject, folder = world.SUBJECTS[SUBJECT], root / f"1_{SUBJECT}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, round(100 * share)])
    having = {tag: set(rng.permutation(IMAGES)[: round(share * IMAGES)]) for tag in TAGS}
    for number in range(IMAGES):
        while True:
            spec = sample_subject_spec(rng, subject)
            if all((getattr(spec, TAGS[tag][0]) == tag) is (number in having[tag]) for tag in TAGS):
                break
        path = folder / f"{number:04}.png"
        world.render(spec, *world.SIZES_PX[number % len(world.SIZES_PX)]).save(path)
        path.with_suffix(".txt").write_text(", ".join(caption_tags(spec, subject, captions="absorbed")))


def seen(run: Any, prompts: Sequence[str], weight: float) -> dict[str, float]:
    """The share of pictures that show each tag, and the mean probability of the subject's hair, eyes and skin."""
    import numpy as np
    import torch

    from lorasweep.dollhouse import world
    from lorasweep.dollhouse.reader.reader import Reader

    pictures = [picture for seed in range(NOISES) for picture in run.draw(prompts, weight=weight, seed=seed)]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2) / 255
    reading = Reader.load().read(pixels)
    found = {tag: reading.values(attribute).count(tag) / len(pictures) for tag, (attribute, _) in TAGS.items()}
    return found | {"subject": reading.traits(world.SUBJECTS[SUBJECT]).mean().item()}


def cook(share: float, seed: int, steps: int) -> Any:
    """Train on such a dataset, or take the run that is there."""
    import lorasweep as ls
    from lorasweep.core import files, paths

    name = f"{round(100 * share)}-{seed}"
    root = paths.cache() / "fused_tags" / name
    if not root.is_dir():
        files.write_folder(root, lambda draft: draw_dataset(draft, share, seed))
    recipe = ls.compose(f"dataset.path={root}", f"train.max_steps={steps}", f"seed={seed}", *OVERRIDES)
    return ls.run_trial(recipe, paths.outputs() / "fused_tags" / f"{name}-{steps}", quiet=True)


def main() -> None:
    """Print a table, Markdown: a row per share and seed, the base alone last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.5, 0.8, 0.95, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    head = [f"{what}, {kind} at {weight:g}" for kind, weight in CELLS for what in (*TAGS, "subject")]
    print("| share | " + " | ".join(head) + " |\n" + "|---" * (len(head) + 1) + "|")

    def row(name: str, run: Any, times: float = 1.0) -> None:
        found = [seen(run, PROMPTS[kind], times * weight) for kind, weight in CELLS]
        cells = [f"{value:.2f}" for each in found for value in each.values()]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

    for seed in options.seeds:
        for share in options.shares:
            run = cook(share, seed, options.steps)
            row(f"{share:.0%}", run)
    row("no LoRA", run, times=0)


if __name__ == "__main__":
    main()
