"""A sweep whose images changed since it was cooked is refused with their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import clean_dataset
import pytest
from PIL import Image

from lorasweep import api, config
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.records import Status, to_dict
from lorasweep.core.run_folder import SweepFolder, TrialRecord
from lorasweep.sweep.manifest import declare, write_manifest


def another(image: Path) -> None:
    Image.effect_noise((64, 64), 77).convert("RGB").save(image)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (another, "10_zkw/{} is another picture"),
        (lambda image: image.with_suffix(".txt").write_text("zkw, other"), "10_zkw/{} has another caption"),
        (Path.unlink, "10_zkw/{} is gone"),
        (lambda image: image.rename(image.with_stem("new")), "10_zkw/{} is gone, 10_zkw/new.png is new"),
    ],
)
def test_what_changed_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], told: str
) -> None:
    images = clean_dataset.photos(home, "10_zkw", caption="zkw, tag{}")
    file = home / "mine.yaml"
    file.write_text(f"sweep: {{question: '?', recipe: {{dataset.path: '{images}'}}, arms: {{only: {{}}}}}}")
    spec = config.load_sweep(str(file), [])
    plans = dict(api.plan(spec).plans)
    folder = home / "outputs" / "mine"
    write_manifest(folder, declare(spec, plans))
    run = SweepFolder(folder).run(0, "only", 0)
    fingerprint = plans["only"].fingerprint
    run.write_record(TrialRecord(number=0, arm="only", seed=0, status=Status.COMPLETED, fingerprint=fingerprint))
    files.write_json(run.path / "plan.json", to_dict(plans["only"]))

    image = sorted(Path(images).rglob("*.png"))[0]
    change(image)
    assert main(["sweep", str(file)]) == 2
    said = capsys.readouterr().err
    assert told.format(image.name) in said and "put back what was there" in said
    (run.path / "plan.json").write_text('{"images": [3')
    assert main(["sweep", str(file)]) == 2
    assert "base model changed since it was cooked  (put back" in capsys.readouterr().err
