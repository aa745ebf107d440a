"""What every tagger promises, for each file of conf/tagger/, on tiny random models."""

from pathlib import Path

import pytest
from tiny_taggers import make_blip, make_wd

from lorasweep.testing.taggers import *  # noqa: F403


@pytest.fixture(scope="module")
def tagger_path(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder by tagger."""
    root = tmp_path_factory.mktemp("taggers")
    return {"wd": make_wd(root / "wd"), "captioner": make_blip(root / "blip")}
