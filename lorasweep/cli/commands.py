"""What every command is called, takes and says for itself: a table of words for `parser`. argparse only."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorasweep.core import paths
from lorasweep.core.errors import InputError

Argument = tuple[tuple[str, ...], dict[str, Any]]  # names, and what argparse is told of them

EPILOG = """\
start here:
  lorasweep sweep quickstart              several recipes on the embedded base, judged and compared
  lorasweep ui                            look at them in the MLflow UI
  lorasweep plan quickstart               what would run: steps, exposures, buckets; touches nothing
  lorasweep train dataset.path=my/images  one recipe on your own folder (kohya layout or plain)
  lorasweep -m optimizer=adamw,prodigy    the Hydra way: several values, cooked and compared
  eval "$(lorasweep -sc install=bash)"    tab completion of keys, files, sweeps and commands

KEY=VALUE is Hydra's override grammar: adapter.dim=16  optimizer=prodigy  'sample.weights=[0.5,0.7,0.9]'
results: outputs/, mlruns/ and cache/ in the folder where you type, or in LORASWEEP_HOME
exit codes: 0 done, 2 the input is wrong (nothing was started), 1 anything else, 130 interrupted
"""


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Make the type of a whole number, both ends included."""
    rule = f">= {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        is_whole = text.isascii() and text.isdigit() and len(text) < 19
        if not is_whole or not least <= int(text) <= (int(text) if most is None else most):
            raise argparse.ArgumentTypeError(f"must be a whole number {rule}, got {text!r}")
        return int(text)

    return read


_count = _whole(1)


def _steps(text: str) -> list[int]:
    return [_count(part.strip()) for part in text.split(",")]


def _path(text: str) -> Path:
    """Return a file or folder, `~` read as the home folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must name a file or folder, got nothing")
    try:
        return paths.typed(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(error.problems[0].message) from error


def _arg(*names: str, **how: Any) -> Argument:
    """Return one argument; those of the same `group` exclude each other."""
    return names, how


# With a default, or argparse says of what may be left out that it is required.
_OVERRIDES = _arg("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides of the recipe")
_JSON = _arg("--json", action="store_true", help="print one JSON document instead of a table")
_FRESH = _arg("--fresh", action="store_true", help="cook again what a sweep or `train` here has already cooked")
_RATER = _arg("--rater", default="me", metavar="NAME", help="whose answers they are (me)")
_READERS, _FORMS = ("comfyui", "forge", "a1111", "kohya", "diffusers"), ("factors", "diff", "lora")
_OLDER_FORMS = {"comfyui": "factors", "any": "diff"}  # as `--form` was called until 2026-11-29


def _command(summary: str, more: str, *arguments: Argument) -> tuple[str, str, tuple[Argument, ...]]:
    """Return one command: a summary, examples and more, what it takes."""
    return summary, more, arguments


COMMANDS: dict[str, tuple[str, str, tuple[Argument, ...]]] = {
    "train": _command(
        "cook one recipe",
        """\
examples:
  lorasweep train dataset.path=my/images                      the default recipe on your own images
  lorasweep train adapter=lora optimizer=prodigy dataset.path=my/images
  lorasweep train adapter.dim=16 train.max_steps=200 seed=1   on the embedded dollhouse
  lorasweep train --from quickstart/2                         cook it again; did it come out the same?
  lorasweep train --from train/7 dataset.path=new/place       its images lie elsewhere now
  lorasweep train my_recipe.yaml seed=1                       a recipe in a file, and what to change in it
The folder is kohya's layout (10_zkw/*.png + .txt: repeats_class) or a plain folder of images.
Ctrl-C once finishes the step, saves and exits with 130; twice stops now. The same command again goes on where
it stopped; a recipe already cooked, here or by a sweep, is not cooked twice.""",
        _arg(
            "overrides",
            nargs="*",
            metavar="[FILE] KEY=VALUE",
            help="a recipe file (one key, `recipe:`) and overrides, or only overrides",
        ),
        _arg(
            "--from",
            dest="source",
            metavar="SWEEP/TRIAL",
            help="cook a recorded recipe again and compare; 1 when it came out otherwise",
        ),
        _FRESH,
        _JSON,
    ),
    "sweep": _command(
        "run a sweep, or continue it",
        """\
examples:
  lorasweep sweep quickstart                       a sweep that ships with lorasweep
  lorasweep sweep optimizer=adamw,prodigy adapter.dim=8,16   a grid, without a file; with dataset.path, base.path
  lorasweep sweep my_question.yaml                 your own file
  lorasweep sweep quickstart train.max_steps=100   every arm with another budget
  lorasweep sweep quickstart 'optimizer.lr=tag(log,interval(1e-4,1e-2))' sweep.total=12   search an axis
  lorasweep sweep my.yaml optimizer.lr=1e-4,5e-4   one recipe's file, compared with itself
  lorasweep sweep conditional sweep.sampler=random sweep.name=luck   the file's own keys: sweep.KEY=VALUE
  lorasweep sweep quickstart --until-decided       then seeds where they tell most about the best arm
Ctrl-C once finishes the step, checkpoints and exits with 130; twice stops now.
The same command again continues: nothing is cooked twice, nothing finished is lost.""",
        _arg("sweep", metavar="NAME|FILE", nargs="?", help="a sweep in sweeps/, or a YAML file; alone: lists them"),
        _OVERRIDES,
        _arg("--extend", action="store_true", help="accept new arms, seeds or a wider search in a sweep already begun"),
        _arg(
            "--until-decided",
            action="store_true",
            help="afterwards repeat the best arms with further seeds until they can be told apart",
        ),
        _arg(
            "--max-repeats",
            type=_count,
            default=5,
            metavar="N",
            help="how many further seeds --until-decided may give an arm (default: 5)",
        ),
        _FRESH,
        _JSON,
    ),
    "judge": _command(
        "judge LoRA files that any trainer made",
        """\
examples:
  lorasweep judge my_lora-*.safetensors base=stable_diffusion base.path=sd15.safetensors \\
                  dataset.path=my/images captions.trigger=zkw        which file is done, which one burned?
  lorasweep judge my_lora.safetensors captions.trigger=zkw base=...  without images: drift, burn, variety, control
  lorasweep judge mine=a.safetensors theirs=b.safetensors base=...   side by side, with a leaderboard
  lorasweep judge a.safetensors base=... --require 'overcook<0.5' --require 'identity>0.3'   for scripts
Each file is drawn and judged at LoRA weight 0.7 (sample.weight). Their order is told by their metadata or names, or by
--steps. All images of dataset.path count as trained on; dataset.holdout_path=FOLDER has some that were not. Judging the
same files twice costs nothing. Exit code 3: a --require is not kept.""",
        _arg(
            "overrides", nargs="+", metavar="FILE|ARM=FILE|KEY=VALUE", help="files of one arm, or of several; a recipe"
        ),
        _arg("--steps", type=_steps, metavar="N,N", help="at which the files were saved, in their order"),
        _arg(
            "--require",
            action="append",
            default=[],
            metavar="METRIC<BOUND",
            help="a bound that the kept file must keep: overcook, identity, utility or any metric; may be repeated",
        ),
        _JSON,
    ),
    "plan": _command(
        "show what would run, without running it",
        """\
examples:
  lorasweep plan quickstart
  lorasweep plan dataset.path=my/images train.epochs=8 --json
  lorasweep plan --captions dataset.path=my/images captions=absorbed     captions before and after
  lorasweep plan optimizers --png rates.png                              every schedule as a picture
Steps, exposures per concept and tag, buckets, every image's crop, time. Never imports torch.""",
        _arg(
            "overrides",
            nargs="*",
            metavar="[NAME|FILE] KEY=VALUE",
            help="a sweep or a recipe file and overrides for it, or only overrides for one recipe",
        ),
        _arg("--captions", action="store_true", help="instead: captions before and after, tags by frequency"),
        _arg("--png", type=_path, metavar="FILE", help="also draw the learning rates of all arms into this picture"),
        _JSON,
    ),
    "audit": _command(
        "say what a dataset will teach, and what to mend before training",
        """\
examples:
  lorasweep audit my/images
  lorasweep audit my/images captions=absorbed buckets=kohya    as it would be trained on with these
  lorasweep audit my/images --html look.html                   thumbnails, crops, captions, findings beside them
  lorasweep audit my/images --strict                           exit code 1 while a `must` is open
Every finding has a level (must, should, note), a reason and, where one helps, a command that mends it. Nothing
is changed without --aside or --rename. Never imports torch. See docs/dataset.md.""",
        _arg("folder", type=_path, metavar="FOLDER", help="kohya's layout or a plain folder of images"),
        _OVERRIDES,
        _arg("--strict", action="store_true", help="exit with 1 when a `must` is open"),
        _arg("--html", type=_path, metavar="FILE", help="also write a page to look at"),
        _arg("--aside", nargs="+", default=[], metavar="FILE", help="instead: move files to .aside/, not trained on"),
        _arg("--rename", nargs=2, action="append", default=[], metavar=("OLD", "NEW"), help="instead: rename a file"),
        _JSON,
    ),
    "caption": _command(
        "caption images by a tagger or a policy, and take it back",
        """\
examples:
  lorasweep caption my/images --apply captions=absorbed                      show what would change
  lorasweep caption my/images --apply captions=cleaned --out cleaned         into a new folder
  lorasweep caption my/images --apply captions.trigger=zkw captions.add_trigger=true --write   where none are
  lorasweep caption my/images --apply captions=cleaned --write --overwrite   in place of yours
  lorasweep caption my/images --undo                                         every byte as it was
  lorasweep caption my/images tagger=wd tagger.path=wd-vit-tagger-v3 captions.trigger=zkw   what a tagger sees
Taggers: wd, captioner, dollhouse (conf/tagger/); nothing is downloaded. lorasweep itself applies a policy while
it trains, and leaves the files alone. See docs/dataset.md.""",
        _arg("folder", type=_path, metavar="FOLDER", help="kohya's layout or a plain folder of images"),
        _arg("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="tagger=NAME and its keys; the policy"),
        _arg("--apply", nargs="*", metavar="KEY=VALUE", help="the policy: captions=cleaned, captions.prune=[...]"),
        _arg("-o", "--out", type=_path, metavar="FOLDER", help="write all captions into this new folder"),
        _arg("--write", action="store_true", help="write beside the images, where no caption is"),
        _arg("--overwrite", action="store_true", help="with --write: replace captions that are there"),
        _arg("--undo", action="store_true", help="bring back what the last --write replaced"),
        _arg("--trigger-first", action="store_true", help="move the trigger to the front"),
        _arg("--add", default="", metavar="TAG", help="add a class word to captions without one"),
        _arg("--encoding", default="utf-8", help="of captions that are not UTF-8, e.g. cp1252"),
        _JSON,
    ),
    "status": _command(
        "show where a sweep stands",
        "Reads the run folders only, so it works while the sweep runs and after it was killed.",
        _arg("sweep", metavar="NAME", nargs="?", help="a sweep; all of them when left out"),
        _JSON,
    ),
    "report": _command(
        "write a sweep's answer as one page",
        """\
examples:
  lorasweep report quickstart              report.html and report.md beside the run folders
  lorasweep report quickstart -o shared    in a folder of yours; the HTML is one file, with everything in it
Works while a sweep runs and after it was killed, from the run folders alone. Reports `train` runs too.""",
        _arg("sweep", metavar="NAME", help="a sweep, a path to its folder, or `train`"),
        _arg("-o", "--out", type=_path, metavar="FOLDER", help="default: the sweep's own folder"),
        _arg("--open", action="store_true", help="open the page in a browser"),
        _JSON,
    ),
    "rate": _command(
        "compare pictures blind, by your own eye",
        """\
examples:
  lorasweep rate quickstart                     its arms, at the checkpoint and weight that each keeps
  lorasweep rate quickstart/2                   the steps of one run; or of judged files: judge/NAME
  lorasweep rate quickstart --rater anna        several people, each apart
  lorasweep rate quickstart --results           the ranks, and whether the score agrees with the eye
A page on this machine shows two pictures of one prompt and one noise, and not whose they are: left, right, as good,
both bad, by keys, clicks or taps; U takes an answer back. It stops when the ranks are settled or after --pairs; every
answer is kept at once, and the same command goes on. See docs/rate.md.""",
        _arg("named", metavar="SWEEP|SWEEP/TRIAL", help="a sweep, or a run"),
        _RATER,
        _arg("--pairs", type=_count, default=60, metavar="N", help="how many answers are enough (60)"),
        _arg("--port", type=_whole(1, 65535), help="default: a free one"),
        _arg("--no-browser", dest="browser", action="store_false", help="only say the page's address"),
        _arg("--results", action="store_true", help="only show what came of it"),
        _JSON,
    ),
    "ui": _command(
        "open the MLflow UI on this machine",
        "Listens on loopback only; Ctrl-C ends it.",
        _arg("--port", type=_whole(1, 65535), help="default: 5000, or the next free one"),
        _arg("--open", action="store_true", help="open the page in a browser"),
    ),
    "calibrate": _command(
        "find out where overcooking begins on a base, by ruining adapters on purpose",
        """\
examples:
  lorasweep calibrate base=stable_diffusion base.path=models/sd15 dataset.path=my/images
  lorasweep calibrate optimizer.lr=2e-3 train.max_steps=100       on the dollhouse
  lorasweep calibrate --ratings quickstart/2 --rater anna         by what anna called ruined; trains nothing
Cooks the recipe far too long and far too hot, beside the base itself and random adapters of a healthy one's
size. Every symptom gets its limit half way between what the harmless and the ruined show. Later recipes on
that base, with that kind of dataset, at that LoRA weight and guidance, find the file by themselves; scores
with the same digest in metrics.json are comparable. The same command continues where it stopped.""",
        _OVERRIDES,
        _arg("--times", type=_count, help="times the recipe's exposures (10)"),
        _arg("--rungs", type=_count, help="times each control is judged (12)"),
        _arg("--seeds", type=_count, help="runs of each control (2)"),
        _arg("--ratings", metavar="SWEEP|SWEEP/TRIAL", help="instead of controls: what was rated there"),
        _RATER,
        _arg("--name", help="of the calibration, for people; default: the base's"),
        _arg("-o", "--out", type=_path, metavar="FILE", help="default: where recipes find it"),
        _JSON,
    ),
    "export": _command(
        "write a cooked adapter as a file for ComfyUI, Forge, A1111, kohya's tools or diffusers",
        """\
examples:
  lorasweep export quickstart --best                    the winner of a sweep
  lorasweep export quickstart/2 --step 160              an earlier rung of one trial
  lorasweep export outputs/train/1a2b3c4d5e6f-s0 --out my.safetensors --precision fp16
  lorasweep export dylora/0000-a-s0 --rank 8 --rank 32  a DyLoRA cut to two of its ranks
  lorasweep export my_dora/0 --for a1111 --for kohya    the smallest form that both read
who reads which form as it was judged:
                        factors                                    diff                    lora
  lora, locon, dylora   all five                                   ComfyUI, Forge, A1111   (the factors)
  loha, lokr            ComfyUI, Forge, A1111                      ComfyUI, Forge, A1111   all five
  dora                  ComfyUI, Forge; others show it wrongly     ComfyUI, Forge, A1111   all five
  ia3                   A1111; others do not see it                ComfyUI, Forge, A1111   all five
The factors are small. diff holds whole weight differences, as large as the base's weights; lora is the same
as a plain LoRA of full rank, up to twice that. Left out: factors, for an ia3 lora. The metadata tell the
recipe, the step and how overcooked it was. Nothing is trained or changed.""",
        _arg("run", metavar="RUN|SWEEP", help="a run folder, SWEEP/TRIAL or SWEEP/NUMBER, or a sweep with --best"),
        _arg("--best", action="store_true", help="the sweep's trial with the best value"),
        _arg("--step", type=_whole(0), help="a rung's step; the kept one's when left out"),
        _arg("-o", "--out", type=_path, metavar="FILE|FOLDER", help="default: export/ in the run folder"),
        _arg("--precision", choices=["fp32", "fp16"], default="fp32", help="default: fp32, as judged"),
        _arg(
            "--for",
            dest="readers",
            action="append",
            type=str.lower,
            choices=_READERS,
            default=[],
            help="who is to read it; may be repeated; the smallest form that all of them read",
            group="how",
        ),
        _arg("--form", choices=_FORMS, help="or name the form", group="how"),
        _arg("--dora", dest="form", type=_OLDER_FORMS.get, choices=_FORMS, help=argparse.SUPPRESS, group="how"),
        _arg("--rank", type=_count, action="append", default=[], help="cut a DyLoRA; may be repeated", group="cut"),
        _arg("--all-ranks", action="store_true", help="a file for every rank of a DyLoRA", group="cut"),
        _JSON,
    ),
    "fork": _command(
        "cook a variation of a run",
        """\
examples:
  lorasweep fork quickstart/2 adapter.dim=16
  lorasweep fork quickstart/2 optimizer=adamw     with AdamW's own learning rate
The run's recipe with your KEY=VALUEs on top, in a run folder of its own that remembers its parent.""",
        _arg(
            "run",
            metavar="SWEEP/TRIAL",
            help="a run in the output folder (its number will do: quickstart/2), or its path",
        ),
        _OVERRIDES,
        _FRESH,
        _JSON,
    ),
    "import": _command(
        "turn another trainer's config into a recipe file",
        """\
examples:
  lorasweep import config.toml                                        print the recipe
  lorasweep import config.toml --dataset dataset.toml -o my.yaml
  lorasweep import config.toml -o my.yaml --link my_images            several folders: one of links
  lorasweep import a_lora.safetensors -o my.yaml                      the training that it keeps
  lorasweep plan my.yaml && lorasweep train my.yaml
Reads kohya's sd-scripts and musubi-tuner (TOML, or a file with the command that trains), kohya_ss (JSON), Easy
Training Scripts, OneTrainer (JSON), ai-toolkit (YAML, JSON), SimpleTuner (JSON), a command of diffusers' examples,
whatever the file is called, and LoRA files that keep what sd-scripts, musubi-tuner, OneTrainer or lorasweep wrote of
their training. What could not be translated is listed, with its reason, in the file and on stderr: docs/flags.md.""",
        _arg("config", type=_path, metavar="CONFIG", help="the config of the training, or its LoRA file"),
        _arg("--dataset", type=_path, metavar="FILE", help="the file of the images, when apart"),
        _arg("-o", "--out", type=_path, metavar="FILE", help="the recipe file; printed when left out"),
        _arg("--link", type=_path, metavar="FOLDER", help="link several folders of images into this"),
        _JSON,
    ),
    "sync": _command(
        "bring MLflow up to date with the run folders",
        "For when the tracking server was down: the run folders have everything; nothing is logged twice.",
        _arg("sweeps", metavar="NAME", nargs="*", help="sweeps; all of them when left out"),
        _JSON,
    ),
    "doctor": _command(
        "check this machine, and cook for a few seconds",
        "Each line has its next step when something is wrong. Exit code 1 when something is broken.",
        _arg("overrides", metavar="KEY=VALUE", nargs="*", help="launcher=ssh ...: ask its machines instead"),
        _arg("--no-cook", dest="cook", action="store_false", help="leave the cooking out"),
        _JSON,
    ),
    "cache": _command(
        "show what is kept to be quicker the next time, or clear it",
        """\
examples:
  lorasweep cache                     each kind, with its size
  lorasweep cache latents --clear     one kind goes; without a kind, all of them
What goes is made again when it is needed. Runs, adapters and pictures of runs are not in it.""",
        _arg("kinds", metavar="KIND", nargs="*", help="all of them when left out"),
        _arg("--clear", action="store_true", help="remove them"),
        _JSON,
    ),
    "dollhouse": _command(
        "look at the embedded world, or write a dataset from it",
        """\
examples:
  lorasweep dollhouse draw --out doll.png --count 16          look at the world
  lorasweep dollhouse dataset --out my_dolls --images 20      write a dataset folder to train on""",
    ),
}

ALIASES = {"import-kohya": "import"}  # older names, which still work

# The actions of `dollhouse`.
DOLLHOUSE: dict[str, tuple[str, tuple[Argument, ...]]] = {
    "draw": (
        "draw a sheet of random dolls, or of one subject",
        (
            _arg(
                "-o", "--out", type=_path, default="dollhouse.png", metavar="FILE", help="the picture (dollhouse.png)"
            ),
            _arg("--count", type=_count, default=16, metavar="N", help="how many dolls (16)"),
            _arg("--subject", metavar="TRIGGER", help="all of one subject: zkw, mona taco, ..."),
            _arg("--size", default="64x64", metavar="WxH", help="pixels of each doll (64x64)"),
            _arg("--seed", type=_whole(0), default=0, metavar="N", help="another draw (0)"),
        ),
    ),
    "dataset": (
        "write a dataset folder in kohya's layout",
        (
            _arg("-o", "--out", type=_path, required=True, metavar="FOLDER", help="a new folder"),
            _arg("--subject", default="zkw", metavar="TRIGGER", help="whose pictures (zkw)"),
            _arg("--images", type=_count, default=20, metavar="N", help="in all (20)"),
            _arg("--outfits", type=_count, default=1, metavar="N", help="of the subject, a folder each (1)"),
            _arg(
                "--confound", type=float, default=0.5, metavar="SHARE", help="of images in one outfit and place (0.5)"
            ),
            _arg("--repeats", type=_count, default=10, metavar="N", help="the number before the folder's name (10)"),
            _arg("--seed", type=_whole(0), default=0, metavar="N", help="another draw (0)"),
        ),
    ),
}
