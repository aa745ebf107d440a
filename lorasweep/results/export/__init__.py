"""From a run folder to a .safetensors that ComfyUI, Forge, A1111, kohya's tools or diffusers read.

`results.runs` finds the adapter, `forms` says which program reads what, `whole` makes the tensors, `metadata` says
what kohya says in such a file and what lorasweep knows besides, `write` writes them together.
"""

from lorasweep.results.export.write import Exported, export_run

__all__ = ["Exported", "export_run"]
