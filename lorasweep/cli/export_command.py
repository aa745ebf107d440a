"""`lorasweep export`: a cooked adapter as a file for ComfyUI, Forge, A1111, kohya's tools or diffusers."""

from __future__ import annotations

import argparse
import json

from lorasweep import api
from lorasweep.core.records import to_dict
from lorasweep.core.run_folder import RunFolder
from lorasweep.results import runs
from lorasweep.results.export import forms
from lorasweep.results.export.forms import Form


def run(options: argparse.Namespace) -> int:
    """Find the run, write its files, say where they are; returns the exit code."""
    saved = api.checkpoint(options.run, best=options.best, step=options.step)
    written = api.export(
        saved,
        options.out,
        precision=options.precision,
        ranks="all" if options.all_ranks else tuple(options.rank),
        form=options.form,
        readers=options.readers,
    )
    if options.json:
        print(json.dumps([to_dict(each) for each in written], indent=1))
        return 0
    for each in written:
        rank = f" rank {each.rank}" if each.rank else ""
        print(f"{each.adapter}{rank}, {each.modules} modules, {each.bytes / 2**20:.1f} MiB: {each.file}")
    print(_readers(saved, written[0].form))
    print(f"judged at LoRA weight {saved.recipe.sample.weight:g}. {_verdict(saved)}".rstrip())
    return 0


def _readers(saved: runs.Checkpoint, form: Form) -> str:
    """Which programs read the file as it was judged, and what to type for the others."""
    kind, base = saved.recipe.adapter.name, saved.recipe.base.name
    able = forms.read_by(kind, form, base=base)
    line = f"read as judged by {forms.names(able) if able else 'no program that is known'}"
    if others := [reader for reader in forms.read_by(kind, "lora", base=base) if reader not in able]:
        line += f"; not by {forms.names(others)}, which want --for {' or --for '.join(others)}"
    return line


def _verdict(saved: runs.Checkpoint) -> str:
    """What the judges said, at which weight to use it included; nothing about a rung that was not kept."""
    verdict = RunFolder(saved.folder).result["verdict"]
    return str(verdict.get("sentence", "")) if verdict.get("kept") == saved.step else ""
