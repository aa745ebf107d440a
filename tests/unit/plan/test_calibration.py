"""Which calibration judges a recipe, and what is said when none was made for its base."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lorasweep import config
from lorasweep.core.errors import InputError
from lorasweep.plan import calibration
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import Limit

BASE = "f" * 64


def made_for(recipe: config.Recipe, *, name: str = "mine", limit: float = 0.3) -> Calibration:
    holds_for = calibration.conditions(recipe, BASE)
    return Calibration(name=name, holds_for=holds_for, limits={"gap": Limit(limit=limit, width=0.05)})


def test_what_comes_with_lorasweep_can_be_read_and_judges() -> None:
    shipped = [calibration.read(path) for path in calibration.SHIPPED.glob("*.json")]
    assert shipped and all(each.limits for each in shipped)


def test_the_one_that_fits_is_found_and_a_borrowed_one_says_so(home: Path) -> None:
    recipe = config.compose_recipe()
    borrowed = calibration.find(recipe, BASE)
    assert "another base" in borrowed.reason and not borrowed.document()["fits"]
    own = made_for(recipe)
    own.write(calibration.own_path(own.holds_for))
    found = calibration.find(recipe, BASE)
    assert found.calibration.name == "mine" and found.document() == {
        "name": "mine",
        "digest": own.digest,
        "fits": True,
    }
    heavier = config.compose_recipe(["sample.weight=1.0"])
    assert "another weight" in calibration.find(heavier, BASE).reason or calibration.find(heavier, BASE).reason


def test_a_named_file_wins(home: Path) -> None:
    plain = config.compose_recipe()
    made_for(plain).write(calibration.own_path(calibration.conditions(plain, BASE)))
    made_for(plain, name="named").write(home / "named.json")
    recipe = config.compose_recipe([f"calibration={home / 'named.json'}"])
    assert calibration.find(recipe, BASE).calibration.name == "named"
    assert recipe.fingerprint() != plain.fingerprint()


def test_a_calibration_survives_writing(home: Path) -> None:
    made = dataclasses.replace(
        made_for(config.compose_recipe()), unplaced={"burn": "no control fell apart"}, made={"steps": 3}
    )
    made.write(home / "c.json")
    again = calibration.read(home / "c.json")
    assert again == made and again.digest == json.loads((home / "c.json").read_text())["digest"]


def test_the_digest_moves_with_every_score_and_with_nothing_else() -> None:
    made = made_for(config.compose_recipe())
    assert dataclasses.replace(made, name="other", made={"when": "later"}).digest == made.digest
    others = [
        made_for(config.compose_recipe(), limit=0.31),
        dataclasses.replace(made, learned=0.5),
        dataclasses.replace(made, gain=0.2),
    ]
    assert len({made.digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not a calibration"),
        ("[]", "is not a calibration"),
        (
            '{"name": "x", "holds_for": {}, "limits": {"luck": {"limit": 1, "width": 1}}}',
            "unknown symptoms: luck",
        ),
        ('{"name": "x", "holds_for": {}, "limits": {"gap": {"limit": 1, "width": 0}}}', "no number > 0"),
        ('{"name": "x", "holds_for": {}, "limits": {}, "gain": 0}', "a `gain` > 0"),
        ('{"name": "x", "holds_for": {}, "limits": {}, "gain": 1e999}', "a `gain` > 0"),
        ('{"name": "x", "holds_for": {}, "limits": {}, "learned": 0}', r"a `learned` in \(0, 1\)"),
        ('{"name": "x", "holds_for": {}, "limits": {}, "learned": 1.5}', r"a `learned` in \(0, 1\)"),
    ],
)
def test_a_file_that_is_none_is_refused(home: Path, text: str | None, words: str) -> None:
    path = home / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=words):
        calibration.read(path)
