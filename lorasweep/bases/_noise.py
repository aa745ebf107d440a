"""How a base is noised and what it predicts, as its files say, or the recipe in their place. No torch.

A folder says it in `scheduler/scheduler_config.json`. A single checkpoint has no configs; two empty tensors,
`v_pred` and `ztsnr`, mark one that differs from the rest of its family, and where they were lost
`base.prediction_type` says it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorasweep.bases._safetensors import read_header

PREDICTION_TYPES = ("epsilon", "v_prediction")
PredictionType = Literal["epsilon", "v_prediction"]
_V_PREDICTION, _ZERO_SNR = "v_pred", "ztsnr"  # tensors that mark a checkpoint


@dataclass(frozen=True, kw_only=True)
class NoisePath:
    """What training, judging and sampling go by.

    Attributes:
        config: for diffusers' schedulers.
        said: prediction type that the base's own files state; None where they state none.
        marked: whether a checkpoint states it by a mark.
        as_written: whether `config` is the scheduler config's own, drawn with in the usual way.
    """

    config: dict[str, Any]
    said: str | None
    marked: bool
    as_written: bool

    @property
    def prediction_type(self) -> str:
        """`epsilon` or `v_prediction`."""
        return str(self.config["prediction_type"])

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last timestep is nothing but noise, so that its signal-to-noise ratio is 0."""
        return bool(self.config.get("rescale_betas_zero_snr"))


def noise_path(path: Path, configs: Path, *, shipped: bool, override: PredictionType | None) -> NoisePath:
    """Read how a base is noised.

    Args:
        path: a folder or checkpoint known to be sound.
        configs: the folder of its configs.
        shipped: whether those are ours, so that they say nothing about this very base.
        override: what the recipe says; wins over the files.
    """
    written = json.loads((configs / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    marks = read_header(path).keys() & {_V_PREDICTION, _ZERO_SNR} if path.is_file() else set()
    stated = written.get("prediction_type", "epsilon")
    said = "v_prediction" if _V_PREDICTION in marks else None if shipped else stated
    config = {
        **written,
        "prediction_type": override or said or stated,
        "rescale_betas_zero_snr": bool(written.get("rescale_betas_zero_snr")) or _ZERO_SNR in marks,
    }
    as_written = config["prediction_type"] == stated and not config["rescale_betas_zero_snr"]
    return NoisePath(config=config, said=said, marked=_V_PREDICTION in marks, as_written=as_written)
