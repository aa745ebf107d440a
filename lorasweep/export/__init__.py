"""From a run folder to a .safetensors that ComfyUI, A1111 and kohya's tools read. No torch, no base model.

`runs` finds the run and its adapter, `kohya` renames the tensors, `metadata` says what kohya says in such a
file and what lorasweep knows besides, `write` writes the three together.
"""

from lorasweep.export.runs import CookedRun, find_run
from lorasweep.export.write import Exported, export_run

__all__ = ["CookedRun", "Exported", "export_run", "find_run"]
