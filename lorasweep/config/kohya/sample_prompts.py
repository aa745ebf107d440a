"""The file that `sample_prompts` names: what sd-scripts and musubi-tuner draw on the way.

Lines of text with options (`a beach --n blurry --w 768 --d 1`), a TOML with `[[prompt.subset]]`, or a list in JSON. The
window's own field holds the lines themselves.

Source: kohya-ss/sd-scripts at 48d368fa, library/train_util.py, load_prompts and line_to_prompt_dict;
kohya-ss/musubi-tuner at 30c658c, training/sampling_prompts.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasweep.config.importing import document
from lorasweep.config.importing.draft import Draft
from lorasweep.config.importing.images import PREDICT_NOISE, beside, tables
from lorasweep.config.importing.pictures import PROMPT, SEED, put_pictures
from lorasweep.config.yaml_file import read_text

_OPTION = "sample_prompts"
_NAMES = {
    **{"prompt": PROMPT, "seed": SEED, "negative_prompt": "base.negative_prompt", "sample_steps": "sample.steps"},
    **{"width": "sample.width", "height": "sample.height"},
}
_SCALES = ("scale", "cfg_scale")  # sd-scripts', musubi-tuner's
_EMBEDDED = "guidance_scale"  # of FLUX.1 dev, which is told it
_FLAGS = {"n": "negative_prompt", "w": "width", "h": "height", "d": "seed", "s": "sample_steps", "l": "scale"}
_FLAGS |= {"g": _EMBEDDED, "ss": "sample_sampler"}
_FILES = (".txt", ".toml", ".json")
_NUMBER = re.compile(r"[\d.]+")
_SAMPLERS = {"ddim": "ddim", "euler": "euler", "k_euler": "euler", "dpmsolver++": "dpmpp_2m"}


def read(options: Mapping[str, Any], config: Path) -> list[dict[str, Any]]:
    """Return the pictures by the trainer's own names; none where none are named, or the file is not here."""
    named = options.get(_OPTION)
    if not isinstance(named, str) or not named.strip():
        return []
    if "\n" in named or not named.lower().endswith(_FILES):
        return [*_lines(named)]
    if (file := beside(config, named)) is None:
        return []
    if file.suffix.lower() == ".txt":
        return [*_lines(read_text(file, subject=_OPTION))]
    content = document.read_any(file)
    if isinstance(content, Mapping) and isinstance(shared := content.get("prompt"), Mapping):
        return [{**shared, **each} for each in tables(shared.get("subset"))]
    listed = content if isinstance(content, list) else []
    return [dict(each) if isinstance(each, Mapping) else _line(str(each)) for each in listed]


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield _line(line.strip())


def _line(line: str) -> dict[str, Any]:
    """A prompt and its options, of which the last one counts."""
    prompt, *rest = line.split(" --")
    found: dict[str, Any] = {"prompt": prompt}
    for text in rest:
        flag, _, value = text.partition(" ")
        if flag.lower() in ("n", "ss"):
            found[_FLAGS[flag.lower()]] = value.strip()
        elif name := _FLAGS.get(flag.lower()):
            found[name] = number[0] if (number := _NUMBER.match(value.strip())) else value
        else:
            found[f"--{flag}"] = value.strip()
    return found


def translate(draft: Draft, asked: list[dict[str, Any]]) -> None:
    """Decide what is drawn: the prompts, and what one of them says for all."""
    named = draft.options.get(_OPTION)
    if not isinstance(named, str) or not draft.given(_OPTION):  # lines of text are no text on one line
        draft.take(_OPTION)
        draft.ignore("sample_sampler", f"only read with {_OPTION}")
        return
    if not asked and named.lower().endswith(_FILES):
        draft.ignore(_OPTION, "is not here, or empty: prompts are worked out from the captions")
    base = draft.lines["base"].value
    of_flow = base not in PREDICT_NOISE
    sampler = next((each["sample_sampler"] for each in asked if each.get("sample_sampler")), None)
    sampler = sampler or (draft.take("sample_sampler") if draft.given("sample_sampler") else None)
    if of_flow:
        draft.ignore("sample_sampler", "is not read with flow matching")
    elif isinstance(sampler, str) and (ours := _SAMPLERS.get(sampler.lower())):
        draft.put("sample.sampler", ours, "sample_sampler", given=True)
    elif sampler:
        draft.differ("sample_sampler", "no sampler of ours is that; the base's own draws", sampler)
    if not asked:
        return
    names = {**_NAMES, **dict.fromkeys((_EMBEDDED,) if base == "flux1_dev" else _SCALES, "sample.guidance")}
    known = {*names, *_SCALES, _EMBEDDED, "sample_sampler", "enum", "subset"}
    pictures = [{names[name]: value for name, value in each.items() if name in names} for each in asked]
    put_pictures(draft, _OPTION, pictures, unsaid="" if of_flow else "512 x 512, 30 steps and a scale of 7.5")
    if others := sorted({name for each in asked for name in each} - known):
        draft.leave(_OPTION, "pictures have no such option", others)
