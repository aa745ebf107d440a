"""May today's declaration continue what was cooked?"""

import pretend_sweep
import pytest

from lorasweep.core.errors import ConfigError
from lorasweep.sweep.manifest import declare, read_manifest, write_manifest


def manifest(arms, seeds=(0,), **more):
    spec = pretend_sweep.spec(arms, seeds=seeds)
    return declare(spec, pretend_sweep.plans(spec), **more)


def test_numbers_run_over_arms_first_then_seeds():
    trials = manifest({"a": {}, "b": {"tag": 1}}, seeds=(0, 7)).trials
    assert [(t.number, t.arm, t.seed) for t in trials] == [(0, "a", 0), (1, "b", 0), (2, "a", 7), (3, "b", 7)]


def test_it_survives_the_disk(tmp_path):
    written = manifest({"a": {"step_s": 0.5}, "b": {"tag": 1}}, seeds=(0, 1))
    write_manifest(tmp_path, written)
    read = read_manifest(tmp_path)
    assert read.trials == written.trials
    # The read one binds today's identical declaration, tuples having become lists on the way.
    again = manifest({"a": {"step_s": 0.5}, "b": {"tag": 1}}, seeds=(0, 1), previous=read, cooked=frozenset({("a", 0)}))
    assert again.trials == written.trials


@pytest.mark.parametrize(
    ("left", "why"), [("[1, 2", "line 1"), ("", "cut or changed"), ("question: What\narms:", "cut or changed")]
)
def test_a_broken_manifest_is_an_input_error(tmp_path, left, why):
    (tmp_path / "sweep.yaml").write_text(left)
    with pytest.raises(ConfigError, match="not a sweep's manifest") as caught:
        read_manifest(tmp_path)
    assert why in str(caught.value) and "NoneType" not in str(caught.value)


def test_a_changed_recipe_of_a_cooked_arm_is_refused_with_every_difference():
    before = manifest({"a": {"step_s": 0.5, "value": 1.0}, "b": {"tag": 1}})
    with pytest.raises(ConfigError) as caught:
        manifest({"a": {"step_s": 0.1, "tag": 9}, "b": {"tag": 1}}, previous=before, cooked=frozenset({("a", 0)}))
    text = str(caught.value)
    assert "arms.a.regularization.pretend.step_s  was 0.5 when cooked, is now 0.1" in text
    assert "pretend.value" in text and "pretend.tag" in text
    assert "arms.b" not in text
    assert "another name" in text


def test_extend_does_not_allow_a_changed_recipe():
    before = manifest({"a": {"value": 1.0}})
    with pytest.raises(ConfigError):
        manifest({"a": {"value": 2.0}}, previous=before, cooked=frozenset({("a", 0)}), extend=True)


def test_an_arm_that_was_not_cooked_may_change():
    before = manifest({"a": {}, "b": {"value": 1.0}})
    after = manifest({"a": {}, "b": {"value": 2.0}}, previous=before, cooked=frozenset({("a", 0)}))
    assert after.trials == before.trials


def test_new_arms_and_seeds_need_extend_and_get_the_next_numbers():
    before = manifest({"a": {}})
    wider = {"new": {"tag": 1}, "a": {}}
    with pytest.raises(ConfigError, match="extend adds it"):
        manifest(wider, seeds=(0, 1), previous=before, cooked=frozenset({("a", 0)}))
    after = manifest(wider, seeds=(0, 1), previous=before, cooked=frozenset({("a", 0)}), extend=True)
    assert [(t.number, t.arm, t.seed) for t in after.trials] == [
        (0, "a", 0),
        (1, "new", 0),
        (2, "new", 1),
        (3, "a", 1),
    ]


def test_a_cooked_arm_cannot_vanish():
    before = manifest({"a": {}, "b": {"tag": 1}})
    with pytest.raises(ConfigError, match="no longer declared"):
        manifest({"b": {"tag": 1}}, previous=before, cooked=frozenset({("a", 0)}))


def test_changed_images_are_noticed_though_the_recipe_is_the_same():
    spec = pretend_sweep.spec({"a": {}})
    plans = pretend_sweep.plans(spec)
    before = declare(spec, plans)
    plans["a"] = type(plans["a"])(**{**vars(plans["a"]), "fingerprint": "other images"})
    with pytest.raises(ConfigError, match="images, captions or base model changed"):
        declare(spec, plans, previous=before, cooked=frozenset({("a", 0)}))


def test_a_changed_goal_is_refused():
    before = manifest({"a": {}})
    spec = pretend_sweep.spec({"a": {}}, goal="minimize")
    with pytest.raises(ConfigError, match="was `maximize`"):
        declare(spec, pretend_sweep.plans(spec), previous=before, cooked=frozenset({("a", 0)}))


def test_nothing_cooked_binds_nothing():
    before = manifest({"a": {"value": 1.0}})
    assert manifest({"z": {"value": 2.0}}, previous=before).trials[0].arm == "z"
