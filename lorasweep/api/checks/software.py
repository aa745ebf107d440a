"""Python, libraries, torch and its device, optional extras, and the embedded base, file by file."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import lorasweep
from lorasweep.api.checks import Check, fail, ok, warn
from lorasweep.config import places
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.provenance import version_of
from lorasweep.sweep.workers.pool import cpu_cores, gpu_models

OLDEST_PYTHON = (3, 11)
# Each optional extra, the library that shows it is there, and what that is for.
EXTRAS = {
    "cuda": ("bitsandbytes", "optimizer=adamw8bit, memory.storage=nf4"),
    "cluster": ("ray", "launcher=ray"),
    "caption": ("onnxruntime", "tagger=wd"),
}
NAME = "dollhouse"
_AGAIN = "install lorasweep again, or git checkout lorasweep/dollhouse/weights"


def python() -> Check:
    """Check the interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return fail("python", version, "lorasweep needs Python 3.11 or newer")
    return ok("python", f"{version}, {sys.executable}")


def libraries() -> Check:
    """Compare everything that lorasweep requires with the versions that are tested together."""
    needed = [_name(text) for text in metadata.requires("lorasweep") or () if "extra ==" not in text]
    found = {name: version_of(name) for name in needed}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return fail("libraries", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    tested = _tested()
    other = [
        f"{name} {version} (tested: {tested[name]})"
        for name, version in found.items()
        if name in tested and str(version).partition("+")[0] != tested[name]
    ]
    if other:
        hint = "results may differ in the last digits; pip install -c constraints.txt ."
        return warn("libraries", "; ".join(other), hint)
    told = f"lorasweep {lorasweep.__version__}, {len(found)} libraries"
    return ok("libraries", told + (", the tested versions" if tested else ""))


def torch() -> Check:
    """Tell whether torch works, on what, and with how many threads."""
    import torch as library

    if float(library.ones(8, 8).matmul(library.ones(8, 8)).sum()) != 512.0:
        return fail("torch", f"{library.__version__} cannot multiply", "reinstall torch")
    threads, cores = library.get_num_threads(), cpu_cores()
    if library.cuda.is_available():
        free, total = library.cuda.mem_get_info()
        name = library.cuda.get_device_name()
        told = f"{library.__version__} on {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        return ok("torch", told)
    if idle := ", ".join(gpu_models().values()):
        hint = "this build of torch has no CUDA, or the driver is too old for it: docs/gpu.md"
        return warn("torch", f"{library.__version__} does not see this machine's {idle}", hint)
    told = f"{library.__version__} on the CPU, {threads} thread{'s' if threads > 1 else ''}, {cores} cores"
    if threads > cores:
        return warn("torch", told, f"more threads than cores is slow: OMP_NUM_THREADS={cores}")
    return ok("torch", told, "no GPU: the embedded base is fine, a real Stable Diffusion takes hours a recipe")


def extras() -> Check:
    """List optional libraries; none of them is needed."""
    missing = [extra for extra, (name, _) in EXTRAS.items() if importlib.util.find_spec(name) is None]
    told = [
        f"no {name}, for {what_for}" if extra in missing else f"{name} {version_of(name) or 'yes'}"
        for extra, (name, what_for) in EXTRAS.items()
    ]
    hint = f"if you want what is missing: pip install 'lorasweep[{','.join(missing)}]'" if missing else ""
    return ok("extras", "; ".join(told), hint)


def plugins() -> Check:
    """Tell what installed plugins add, and whether each can be imported under a name of its own."""
    added: dict[str, list[str]] = {}
    wrong: list[Problem] = []
    for plugin in registry.plugins():
        added.setdefault(str(plugin), []).append(f"{plugin.group}={plugin.name}")
        try:
            registry.load(plugin.group, plugin.name)
        except ConfigError as error:
            wrong += [problem for problem in error.problems if problem not in wrong]
    wrong += places.plugin_problems()
    if wrong:
        return fail("plugins", "; ".join(f"{each.where} {each.message}" for each in wrong), wrong[0].hint)
    told = "; ".join(f"{name}: {', '.join(names)}" for name, names in added.items())
    return ok("plugins", told or "none installed")


def _tested() -> dict[str, str]:
    """Return the pinned versions, in a checkout; an installed wheel has no such file."""
    path = Path(lorasweep.__file__).resolve().parents[1] / "constraints.txt"
    if not path.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {_name(line): line.partition("==")[2].partition("+")[0] for line in lines if "==" in line}


def _name(requirement: str) -> str:
    """Return a requirement's project, spelled as pip compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def dollhouse() -> Check:
    """Tell whether the weights are those that were shipped."""
    folder = Path(lorasweep.__file__).resolve().parent / "dollhouse" / "weights"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files) / 2**20
    if not (folder / "model_index.json").is_file():
        return fail(NAME, f"no weights in {folder}", _AGAIN)
    told = f"{len(files)} files, {total:.1f} MiB"
    recorded = _recorded()
    if recorded:
        wrong = [str(path.relative_to(folder)) for path in files if recorded.get(path) != _digest(path)]
        wrong += [str(path.relative_to(folder)) for path in recorded if not path.is_file()]
        return fail(NAME, f"not as shipped: {', '.join(wrong)}", _AGAIN) if wrong else ok(NAME, f"{told}, intact")
    changed = _changed_since_commit(folder)
    if changed is None:
        return ok(NAME, f"{told}, with nothing to compare them with")
    if changed:
        return warn(NAME, f"changed since the commit: {', '.join(changed)}", _AGAIN)
    return ok(NAME, f"{told}, as committed")


def _recorded() -> dict[Path, str]:
    """Return digests of the weights in an installed wheel's RECORD; empty in a checkout."""
    found = {}
    for entry in metadata.files("lorasweep") or ():
        if "dollhouse/weights/" in entry.as_posix() and entry.hash is not None:
            found[Path(str(entry.locate())).resolve()] = entry.hash.value
    return found


def _digest(path: Path) -> str:
    """Return a digest as RECORD has it: base64 without padding."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _changed_since_commit(folder: Path) -> list[str] | None:
    """List files that differ from the checkout's commit; None when this is no checkout."""
    command = ["git", "-C", str(folder), "status", "--porcelain", "--", "."]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [line[3:].rpartition("weights/")[2] for line in done.stdout.splitlines()]
