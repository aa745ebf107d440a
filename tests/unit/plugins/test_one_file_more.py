"""One Python file and one YAML make an adapter of lorasweep's own: it plans, trains and exports in a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

from ready_processes import run_module
from safetensors import safe_open
from tiny_training import FEW_PICTURES

import lorasweep

ADAPTER = '''"""LoRA whose up factor alone is trained: half the numbers."""

from __future__ import annotations

from lorasweep.components.adapters._knobs import Alpha, Rank, Targets, low_rank

READ_BY = ("comfyui", "forge", "a1111", "kohya", "diffusers")
layer_shapes = low_rank


def build(base, *, seed: int, dim: Rank, alpha: Alpha, targets: Targets, text_encoder: bool):
    from peft import LoraConfig
    from lorasweep.components.adapters._lora import draw
    from lorasweep.components.adapters._peft import build_peft, configs_by_part

    fields = {"r": dim, "lora_alpha": alpha, "lora_dropout": 0.0}
    configs = configs_by_part(base, LoraConfig, targets, text_encoder=text_encoder, **fields)
    return build_peft(base, configs, seed=seed, init=draw)
'''
YAML = "name: fictitious\ndim: 4\nalpha: 2.0\ntargets: attn\ntext_encoder: false\n"
SMALL = ("train.max_steps=4", "train.rungs=1", "sample.steps=2", "sample.seeds=[0]", "dataset.dollhouse.images=6")
CODE = """
import sys
from lorasweep.cli import main
from lorasweep.core import paths
recipe = ["adapter=fictitious", "metrics=[norms]", "tracking=none", *sys.argv[2:]]
assert main(["plan", *recipe]) == 0 and main(["train", *recipe]) == 0
(run,) = [folder for folder in (paths.outputs() / paths.SINGLE_RUNS).iterdir() if folder.is_dir()]
assert main(["export", str(run), "--out", sys.argv[1]]) == 0
"""


def test_an_adapter_is_one_python_file_and_one_yaml(home: Path, tmp_path: Path, on_tiny_sd: list[str]) -> None:
    root = Path(lorasweep.__file__).parents[1]
    copy = tmp_path / "copy"
    for folder in ("lorasweep", "conf", "sweeps"):
        shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "lorasweep/components/adapters/fictitious.py").write_text(ADAPTER, encoding="utf-8")
    (copy / "conf/adapter/fictitious.yaml").write_text(YAML, encoding="utf-8")

    out = tmp_path / "fictitious.safetensors"
    (copy / "all_of_it.py").write_text(CODE, encoding="utf-8")
    home_of_its_own = {"LORASWEEP_HOME": str(home)}
    words = [str(out), *SMALL, *FEW_PICTURES, *on_tiny_sd]
    done = run_module("all_of_it", *words, environment=home_of_its_own, path=[copy], trains=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert b"fictitious" in done.stdout
    with safe_open(out, "np") as file:
        assert len(list(file.keys())) > 10 and file.metadata()["ss_network_dim"] == "4"
