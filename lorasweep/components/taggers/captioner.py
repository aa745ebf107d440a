"""Models that caption in sentences: BLIP, BLIP-2, GIT or Florence-2 in a folder of transformers' format.

Only safetensors and transformers' own code are loaded: never a pickle, never code of the folder's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorasweep.components.taggers import _folder
from lorasweep.core import files
from lorasweep.core.protocols import ImageList, Tag
from lorasweep.core.ranges import Count, Text
from lorasweep.core.records import digest

_NEEDED = ("config.json", "*.safetensors", "*processor_config.json")


def problems(*, path: str) -> list[tuple[str, str, str]]:
    """Check the folder."""
    return _folder.problems(path, _NEEDED)


def build(*, path: Text, prompt: Text | None, max_tokens: Count, beams: Count, batch_size: Count) -> Captioner:
    """Load the model, on the GPU where there is one.

    Raises:
        ConfigError: the folder's model is none that captions.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = Path(path).expanduser()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(folder, **local)
        model = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True, **local)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # transformers' for what it does not know or like
        message = f"cannot be loaded as a captioner: {str(error).splitlines()[0]}"
        raise _folder.refused(message, "BLIP, BLIP-2, GIT or Florence-2") from error
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    made_by = [
        files.file_digest(file) for pattern in ("*.json", "*.safetensors") for file in files.matching(folder, pattern)
    ]
    return Captioner(
        processor,
        model,
        asked={"text": prompt} if prompt else {},
        how={"max_new_tokens": max_tokens, "num_beams": beams, "do_sample": False},
        batch_size=batch_size,
        fingerprint=digest([prompt, max_tokens, beams, *made_by]),
    )


class Captioner:
    """See `protocols.Tagger`; a sentence is one tag."""

    def __init__(
        self,
        processor: Any,
        model: Any,
        *,
        asked: dict[str, str],
        how: dict[str, Any],
        batch_size: int,
        fingerprint: str,
    ) -> None:
        self._processor, self._model, self._asked, self._how = processor, model, asked, how
        self.thresholds, self.batch_size, self.fingerprint = {"sentence": 0.0}, batch_size, fingerprint

    def tag(self, pictures: ImageList) -> list[list[Tag]]:
        """Return a sentence per picture."""
        import torch

        asked = {key: [text] * len(pictures) for key, text in self._asked.items()}
        given = self._processor(images=list(pictures), return_tensors="pt", **asked).to(self._model.device)
        with torch.no_grad():
            answers = self._model.generate(**given, **self._how)
        texts = self._processor.batch_decode(answers, skip_special_tokens=True)
        return [[Tag(" ".join(text.split()), 1.0, "sentence")] if text.strip() else [] for text in texts]
