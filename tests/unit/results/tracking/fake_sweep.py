"""A sweep folder as the driver and the workers leave it, without cooking anything.

Numbers follow simple curves, pictures are drawn with Pillow: enough to look real in MLflow's UI, and exact,
so that tests can say what they expect. Every writer can be called again, as a sweep grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from lorasweep.core import files
from lorasweep.core.records import (
    BaseOptions,
    CaptionOptions,
    Component,
    DatasetOptions,
    Recipe,
    SampleOptions,
    TrainOptions,
    to_dict,
)

START = 1_795_000_000.0  # unix s
PROMPTS = {
    "in_distribution": ["zkw, 1girl, red dress, beach", "zkw, 1girl, red dress, forest"],
    "recombined": ["zkw, 1girl, blue coat, snow"],
    "class": ["1girl, green hair, indoors"],
    "unrelated": ["a red circle"],
}
LOG_EVERY = 10


@dataclass(frozen=True)
class FakeArm:
    name: str
    note: str
    overrides: tuple[str, ...]
    utility: float
    overcook: float
    optimizer: Component = field(
        default_factory=lambda: Component(name="adamw", options={"lr": 1e-3, "text_encoder_lr": 1e-4})
    )
    scheduler: Component = field(
        default_factory=lambda: Component(name="cosine_with_restarts", options={"num_cycles": 2})
    )
    buckets: Component = field(
        default_factory=lambda: Component(name="chosen", options={"sizes": [[512, 512]], "upscale": True})
    )


FOUR = Component(name="chosen", options={"sizes": [[512, 512], [448, 576], [576, 448]], "upscale": True})
PRODIGY = Component(name="prodigy", options={"lr": 1.0, "text_encoder_lr": 1.0, "d_coef": 1.0})
ANNEALED = Component(name="annealed_cosine_warmup_restarts", options={"gamma": 0.5})
ARMS = (
    FakeArm("adamw_one_bucket", "AdamW, cosine with restarts, one size",
            ("optimizer=adamw", "scheduler=cosine_with_restarts", "buckets=single"), 0.55, 0.20),
    FakeArm("adamw_four_buckets", "the same recipe with four buckets",
            ("optimizer=adamw", "scheduler=cosine_with_restarts", "buckets=four"), 0.61, 0.18, buckets=FOUR),
    FakeArm("prodigy_four_buckets", "Prodigy with annealed cosine and warm-up restarts",
            ("optimizer=prodigy", "scheduler=annealed_cosine_warmup_restarts", "buckets=four"), 0.68, 0.11,
            optimizer=PRODIGY, scheduler=ANNEALED, buckets=FOUR),
    FakeArm("overcooked", "meant to overcook",
            ("optimizer=adamw", "optimizer.lr=0.005", "buckets=four"), 0.04, 0.93,
            optimizer=Component(name="adamw", options={"lr": 5e-3, "text_encoder_lr": 1e-4}), buckets=FOUR),
)  # fmt: skip


def recipe(arm: FakeArm, seed: int, steps: int) -> Recipe:
    return Recipe(
        seed=seed,
        base=BaseOptions(name="dollhouse", path=None, resolution=64, bucket_step=8),
        dataset=DatasetOptions(),
        captions=CaptionOptions(),
        buckets=arm.buckets,
        adapter=Component(name="lora", options={"dim": 16, "alpha": 8}),
        optimizer=arm.optimizer,
        scheduler=arm.scheduler,
        regularization={},
        train=TrainOptions(max_steps=steps, rungs=4, log_every=LOG_EVERY),
        sample=SampleOptions(),
        metrics={"generalisation": {}, "burn": {}},
    )


@dataclass
class FakeSweep:
    """A sweep folder under construction."""

    folder: Path
    arms: tuple[FakeArm, ...] = ARMS
    seeds: tuple[int, ...] = (0,)
    steps: int = 20
    rung_count: int = 2
    late_s: float = 0.0  # by which what is told from now on happens later
    question: str = "AdamW or Prodigy? One bucket or four?"

    @property
    def rungs(self) -> list[int]:
        return [self.steps * part // self.rung_count for part in range(1, self.rung_count + 1)]

    @property
    def trials(self) -> list[tuple[int, FakeArm, int]]:
        pairs = [(arm, seed) for seed in self.seeds for arm in self.arms]
        return [(number, arm, seed) for number, (arm, seed) in enumerate(pairs)]

    def run_folder(self, number: int) -> Path:
        _, arm, seed = self.trials[number]
        return self.folder / f"{number:04d}-{arm.name}-s{seed}"

    def declare(self) -> FakeSweep:
        manifest = {
            "name": self.folder.name,
            "question": self.question,
            "metric": "overcook/utility",
            "goal": "maximize",
            "worst": 0.0,
            "arms": [
                {
                    "name": arm.name,
                    "note": arm.note,
                    "overrides": list(arm.overrides),
                    "plan": "f" * 64,
                    "recipe": to_dict(recipe(arm, 0, self.steps)),
                }
                for arm in self.arms
            ],
            "trials": [{"number": n, "arm": arm.name, "seed": seed} for n, arm, seed in self.trials],
        }
        files.write_text(self.folder / "sweep.yaml", yaml.safe_dump(manifest, sort_keys=False))
        return self

    def status(self, number: int, status: str, *, step: int = 0, reason: str = "", attempt: int = 1) -> None:
        _, arm, seed = self.trials[number]
        over = status not in ("WAITING", "RUNNING")
        files.write_json(
            self.run_folder(number) / "status.json",
            {
                "status": status, "arm": arm.name, "seed": seed, "number": number, "step": step,
                "steps": self.steps, "attempt": attempt, "reason": reason, "value": None,
                "fingerprint": f"{number:064x}",
                "started_at": None if status == "WAITING" and step == 0 else START + 10 * number,
                "ended_at": START + 10 * number + step / 2 if over else None,
            },
        )  # fmt: skip

    def begin(self, number: int) -> None:
        _, arm, seed = self.trials[number]
        folder = self.run_folder(number)
        the_recipe = recipe(arm, seed, self.steps)
        files.write_text(folder / "recipe.yaml", yaml.safe_dump(to_dict(the_recipe), sort_keys=False))
        images = [
            {"file": f"/data/10_zkw/{i:04d}.png", "sha256": f"{i:064x}", "caption": "zkw, 1girl",
             "repeats": 10, "split": "train" if i % 5 else "held_out"}
            for i in range(20)
        ]  # fmt: skip
        plan = {"steps": self.steps, "rungs": self.rungs, "prompts": PROMPTS, "images": images}
        files.write_json(folder / "plan.json", plan)
        files.write_json(
            folder / "provenance.json",
            {"lorasweep": "0.1.0", "git": {"commit": "c0ffee" * 6, "dirty": False}},
        )
        self.status(number, "RUNNING")

    def cook(self, number: int, to_step: int, *, from_step: int = 0) -> None:
        """Write the events of steps in (from_step, to_step]."""
        _, arm, _ = self.trials[number]
        folder = self.run_folder(number)
        if from_step == 0:
            self.begin(number)
        self._event(number, "start", from_step)
        for step in range(from_step + 1, to_step + 1):
            if step % LOG_EVERY == 0 or step in self.rungs:
                self._event(number, "step", step, metrics=self.train_metrics(number, step))
            if step in self.rungs:
                self._samples(number, step)
                metrics = self.rung_metrics(arm, step)
                self._event(number, "rung", step, metrics=metrics, missing={}, exposures_per_image=step / 4)
        self.status(number, "RUNNING", step=to_step)
        if to_step == self.steps:
            files.write_text(folder / "adapter.safetensors", f"weights of {arm.name}")

    def end(self, number: int, status: str = "COMPLETED", *, step: int | None = None, reason: str = "") -> None:
        _, arm, _ = self.trials[number]
        step = self.steps if step is None else step
        if status in ("COMPLETED", "PRUNED"):
            word = "overcooked" if arm.overcook > 0.5 else "done"
            files.write_json(
                self.run_folder(number) / "metrics.json",
                {
                    "metrics": self.rung_metrics(arm, step) | {"identity/score": arm.utility},
                    "missing": {"prompt_control/score": "no reader"},
                    "rungs": [],
                    "verdict": {
                        "state": word,
                        "sentence": f"{word.capitalize()} at step {step}, weight 0.7.",
                    },
                },
            )
        self.status(number, status, step=step, reason=reason)

    def complete(self, number: int) -> None:
        self.cook(number, self.steps)
        self.end(number)

    def rank(self) -> None:
        order = sorted(self.trials, key=lambda trial: -trial[1].utility)
        rows = [{"rank": place, "number": number} for place, (number, _, _) in enumerate(order, start=1)]
        files.write_json(self.folder / "leaderboard.json", {"trials": rows})
        sheet = Image.new("RGB", (5 * 64, (len(order) + 1) * 64), "white")
        for row, (number, _, _) in enumerate(order, start=1):
            for column, path in enumerate(sorted(self.run_folder(number).glob("samples/step_*/*_w0.7.png"))[-5:]):
                with Image.open(path) as image:
                    sheet.paste(image, (column * 64, row * 64))
        files.write_atomic(self.folder / "contact_sheet.png", sheet.save)

    def train_metrics(self, number: int, step: int) -> dict[str, float]:
        loss = 0.1 + 0.2 * math.exp(-step / 40) + 0.01 * number
        return {
            "train/loss": loss,
            "train/lr/unet": 1e-3 * math.cos(step / self.steps),
            "train/grad_norm": 1.0,
        }

    def rung_metrics(self, arm: FakeArm, step: int) -> dict[str, float]:
        part = step / self.steps
        return {
            "overcook/score": arm.overcook * part,
            "overcook/utility": arm.utility * math.sqrt(part),
            "generalisation/gap": 0.1 * arm.overcook * part,
            "prior_drift/class": 0.05 * arm.overcook * part,
        }

    def _event(self, number: int, kind: str, step: int, **details: Any) -> None:
        time = START + 10 * number + step / 2 + self.late_s
        row = {"kind": kind, "time": time, "step": step, **details}
        files.append_jsonl(self.run_folder(number) / "events.jsonl", row)

    def _samples(self, number: int, step: int) -> None:
        _, arm, _ = self.trials[number]
        relative = f"samples/step_{step:06d}"
        last = step == self.steps
        entries = []
        for weight in (0.7, 0.4, 1.0) if last else (0.7,):
            for tier, prompts in PROMPTS.items():
                for place, prompt in enumerate(prompts):
                    for seed in (0, 1) if last else (0,):
                        name = f"{tier}_{place:02d}_seed{seed}_w{weight:g}.png"
                        image = _picture(tier, place, arm.overcook * step / self.steps * weight)
                        files.write_atomic(self.run_folder(number) / relative / name, image.save)
                        entries.append(
                            {"file": name, "tier": tier, "prompt": prompt, "negative_prompt": "",
                             "seed": seed, "weight": weight, "width": 64, "height": 64}
                        )  # fmt: skip
        files.write_json(self.run_folder(number) / relative / "index.json", {"how": {}, "images": entries})
        self._event(number, "samples", step, index=f"{relative}/index.json")


def _picture(tier: str, place: int, burn: float) -> Image.Image:
    background = {
        "in_distribution": "#8fc1e3",
        "recombined": "#e8eef2",
        "class": "#d9c7a3",
        "unrelated": "#fff",
    }
    image = Image.new("RGB", (64, 64), background[tier])
    draw = ImageDraw.Draw(image)
    if tier == "unrelated":
        draw.ellipse((16, 16, 48, 48), fill="#d33")
    else:
        draw.ellipse((20, 8, 44, 32), fill="#f3d2b3", outline="#333")
        draw.polygon([(32, 28), (14, 60), (50, 60)], fill=("#c33", "#a22", "#36c")[place % 3])
    return Image.blend(image, Image.new("RGB", (64, 64), "#f0f"), min(0.8, burn * 0.7))


def write_sweep(folder: Path, **options: Any) -> FakeSweep:
    """Write a sweep that is over: every trial COMPLETED, ranked, with its contact sheet."""
    sweep = FakeSweep(folder, **options).declare()
    for number, _, _ in sweep.trials:
        sweep.complete(number)
    sweep.rank()
    return sweep
