"""The command that makes the base: `python -m tools.pretrain_dollhouse --out DIR --stage all`.

Each stage reads what the one before left in the run folder, resumes from its own checkpoint, and can run
alone. The argument parser imports no torch.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lorasweep.core import paths

STAGES: Final[tuple[str, ...]] = ("vae", "reader", "text", "latents", "unet", "publish")
FLOW_STAGES: Final[tuple[str, ...]] = ("shipped", "latents", "flow")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.pretrain_dollhouse", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=paths.typed, required=True, help="run folder: logs, checkpoints, published weights"
    )
    parser.add_argument(
        "--stage",
        choices=("all", *dict.fromkeys((*STAGES, *FLOW_STAGES))),
        default="all",
        help="run one stage, or all of the UNet's in order; the flow-matching base takes shipped, latents, flow",
    )
    parser.add_argument("--pictures", type=int, help="size of the pool; a smaller one grows (stage latents)")
    parser.add_argument("--steps", type=int, help="steps in all, the cooldown included (stage flow)")
    parser.add_argument("--cooldown", type=int, help="last steps, which bring the rate to zero (stage flow)")
    parser.add_argument("--processes", type=int, default=4, help="single-threaded processes that train together")
    parser.add_argument("--seed", type=int, default=0, help="decides every draw")
    return parser


def pretrain(out_dir: Path, *, stages: Sequence[str] = STAGES, processes: int = 4, seed: int = 0, **knobs: int) -> None:
    """Run stages in order.

    Args:
        out_dir: the run folder; made if missing.
        stages: names out of `STAGES` or `FLOW_STAGES`.
        processes: how many train together; results depend on it, because each draws its own batch.
        seed: decides every draw.
        knobs: of a single stage.

    Raises:
        FileNotFoundError: a stage needs what an earlier one has not left yet.
    """
    from tools.pretrain_dollhouse.stages import run_stage

    out_dir.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        run_stage(stage, out_dir, processes=processes, seed=seed, **knobs)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments, run the stages, return an exit code."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stages = STAGES if arguments.stage == "all" else (arguments.stage,)
    typed = {name: getattr(arguments, name) for name in ("pictures", "steps", "cooldown")}
    knobs = {name: value for name, value in typed.items() if value is not None}
    pretrain(arguments.out, stages=stages, processes=arguments.processes, seed=arguments.seed, **knobs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
