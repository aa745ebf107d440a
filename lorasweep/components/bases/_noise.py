"""How a base is noised and what it predicts, as its files say, or the recipe in their place. No torch.

A folder says it in `scheduler/scheduler_config.json`. A single checkpoint has no configs; two empty tensors,
`v_pred` and `ztsnr`, mark one that differs from the rest of its family, and where they were lost
`base.prediction_type` and `base.zero_terminal_snr` say it.
"""

from __future__ import annotations

import json
from pathlib import Path

from lorasweep.core.records import BaseOptions, NoiseSchedule
from lorasweep.core.safetensors_header import read_header

_V_PREDICTION, _ZERO_SNR = "v_pred", "ztsnr"  # tensors that mark a checkpoint


def noise_schedule(path: Path, configs: Path, options: BaseOptions, *, shipped: bool, default: str) -> NoiseSchedule:
    """Read how a base is noised.

    Args:
        path: a folder or checkpoint known to be sound.
        configs: the folder of its configs.
        options: what the recipe says; wins over the files.
        shipped: whether those are ours, so that they say nothing about this very base.
        default: prediction type where nothing is said.
    """
    written = json.loads((configs / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    marks = read_header(path).keys() & {_V_PREDICTION, _ZERO_SNR} if path.is_file() else set()
    stated = written.get("prediction_type", default)
    said = "v_prediction" if _V_PREDICTION in marks else None if shipped else stated
    zero_snr = bool(written.get("rescale_betas_zero_snr")) or _ZERO_SNR in marks
    config = {
        **written,
        "prediction_type": options.prediction_type or said or stated,
        "rescale_betas_zero_snr": zero_snr if options.zero_terminal_snr is None else options.zero_terminal_snr,
    }
    as_written = config["prediction_type"] == stated and not config["rescale_betas_zero_snr"]
    return NoiseSchedule(
        config=config,
        said=said,
        marked=_V_PREDICTION in marks,
        as_written=as_written,
    )
