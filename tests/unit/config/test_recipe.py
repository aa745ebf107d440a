"""Recipes: composed from conf/, overridden, checked; every problem at once."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from lorasweep.config import compose_recipe, conf_dir, places, to_yaml
from lorasweep.config.override import parse
from lorasweep.config.tree import compose_tree, draw_as_the_base_does
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError
from lorasweep.core.hydra_text import write
from lorasweep.core.records import Recipe, from_dict, to_dict


def problems_of(*overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        compose_recipe(overrides)
    return {problem.where: f"{problem.message} ({problem.hint})" for problem in caught.value.problems}


def test_the_default_recipe_is_the_map() -> None:
    recipe = compose_recipe()

    assert recipe.seed == 0
    assert recipe.base.name == "dollhouse"
    assert recipe.sample.weight == 0.7
    assert list(recipe.metrics)[:2] == ["generalisation", "prior_drift"]


@pytest.mark.parametrize(
    ("words", "drawn"),
    [
        ([], ("dpmpp_2m", 6)),
        (["base=dollhouse_flow"], ("dpmpp_2m", 6)),
        (["sample.steps=9"], ("dpmpp_2m", 9)),
        (["sample.sampler=ddim"], ("ddim", 20)),
        (["sample.sampler=null", "sample=distilled"], ("dpmpp_2m", 8)),
        (["base=stable_diffusion", "base.path=some.safetensors"], ("ddim", 20)),
    ],
)
def test_a_base_is_drawn_as_it_needs_where_nobody_says_otherwise(words: list[str], drawn: tuple[str, int]) -> None:
    sample = compose_recipe(words).sample
    assert (sample.sampler, sample.steps) == drawn


def test_the_map_has_one_line_per_group_and_a_folder_for_each() -> None:
    folders = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())

    assert sorted([*places.groups(), "tagger"]) == folders  # a tagger is of no recipe


@pytest.mark.parametrize("group", [group for group in places.groups() if group != "metrics"])
def test_every_choice_of_every_group_composes(group: str) -> None:
    given = {"base": ["base.path=x"], "dataset": [f"dataset.path={conf_dir()}"]}.get(group, [])
    for choice in places.choices(group):
        if choice == "adamw8bit" and find_spec("bitsandbytes") is None:
            with pytest.raises(ConfigError, match=r"bitsandbytes.*lorasweep\[cuda\]"):
                compose_recipe([f"{group}={choice}"])
            continue
        # SDXL's shapes are of SDXL's size.
        size = ["base.resolution=1024", "base.bucket_step=64"] if choice.startswith("sdxl") else []
        hosts = ["launcher.hosts=[gpu1,user@pod:22022]"] if choice == "ssh" else []
        compose_recipe([f"{group}={choice}", *given, *size, *hosts])


@pytest.mark.parametrize("group", registry.FOLDERS)
def test_every_module_of_a_group_has_a_yaml_that_names_it(group: str) -> None:
    if group in places.LIST_GROUPS:
        named = set(places.choices(group)) - {"none"}
    else:
        files = (conf_dir() / group).glob("*.yaml")
        named = {yaml.safe_load(file.read_text(encoding="utf-8"))["name"] for file in files}
        named -= {"auto"}  # base=auto picks another file

    no_choices = {"file"} if group == "adapter" else set()  # the reader of one file, for `files` and judge
    assert named == set(registry.names(group)) - no_choices


def test_conf_files_say_what_they_are_and_explain_their_knobs() -> None:
    files = list(conf_dir().glob("*/*.yaml"))
    assert len(files) > 50
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("#"), file
        bare = [line for line in lines if ":" in line and "#" not in line and not line.startswith(("name:", " "))]
        # A key may be explained by a neighbour's comment, but not most of them.
        assert len(bare) < len(lines) / 2, (file, bare)


def test_overrides_pick_files_and_set_keys_in_any_order() -> None:
    recipe = compose_recipe(["optimizer.weight_decay=0.5", "optimizer=prodigy", "train.max_steps=7", "seed=3"])

    assert recipe.optimizer.name == "prodigy"
    assert recipe.optimizer.options["weight_decay"] == 0.5
    assert (recipe.train.max_steps, recipe.seed) == (7, 3)


def test_metrics_are_a_list_that_can_be_picked_and_pruned() -> None:
    assert list(compose_recipe(["metrics=[burn,generalisation]"]).metrics) == ["burn", "generalisation"]
    assert "burn" not in compose_recipe(["~metrics.burn"]).metrics
    assert compose_recipe(["metrics=[]"]).metrics == {}
    more = ("useful_weight", "trigger_selectivity")  # no verdict reads them, so they are asked for by name
    assert not set(more) & set(compose_recipe().metrics)
    assert tuple(compose_recipe([f"metrics=[{','.join(more)}]"]).metrics) == more


def test_prompts_can_be_given_by_tier() -> None:
    recipe = compose_recipe(["dataset.prompts.class=['1girl, hat']"])

    assert recipe.dataset.prompts == {"class": ("1girl, hat",)}


def test_composing_leaves_nothing_behind() -> None:
    first = compose_recipe(["optimizer.lr=0.5"])

    assert not GlobalHydra.instance().is_initialized()
    assert compose_recipe(["optimizer.lr=0.5"]) == first
    assert compose_recipe().optimizer.options["lr"] != 0.5


def test_a_recipe_survives_json_and_yaml() -> None:
    recipe = compose_recipe(["buckets=four", "dataset.prompts.class=[a]"])

    assert from_dict(Recipe, to_dict(recipe)) == recipe
    assert from_dict(Recipe, yaml.safe_load(to_yaml(recipe))) == recipe


@pytest.mark.parametrize(
    ("overrides", "fingerprint"),
    [
        ([], "3e66a59684eb25ad"),
        (["optimizer=prodigy"], "7b9fb00ca2fa8da1"),
        (["adapter=locon", "noise=logit_normal", "regularization=scale_norm"], "97204201ecb3a1a0"),
        (["adapter=lokr", "compute=gpu"], "f8a9f972af644097"),
    ],
)
def test_a_recipe_of_november_is_known_by_the_fingerprint_of_november(overrides: list[str], fingerprint: str) -> None:
    """A knob that is new, at the value that changes nothing, makes no new recipe: its runs would all be trained anew.

    Where a default changes on purpose, so do these.
    """
    assert compose_recipe(overrides).fingerprint().startswith(fingerprint)


def test_tracking_and_launcher_do_not_change_the_fingerprint() -> None:
    plain = compose_recipe().fingerprint()

    assert compose_recipe(["tracking=none", "launcher.workers=2"]).fingerprint() == plain
    assert compose_recipe(["optimizer.lr=0.5"]).fingerprint() != plain


def test_all_problems_are_reported_at_once_with_file_and_example() -> None:
    found = problems_of(
        "adapter.dims=4",
        "adapter.dim=0",
        "adapter.alpha=x",
        "train.batch_size=0",
        "sample.weight=0",
        "nonsense=1",
        "scheduler=cosin",
        "captions._target_=x",
        "train.precision=fp3",
    )

    assert len(found) == 9
    assert "did you mean `dim`?" in found["adapter.dims"] and "conf/adapter/lora.yaml" in found["adapter.dims"]
    assert "must be >= 1, got 0" in found["adapter.dim"]
    assert "must be a number, got 'x'" in found["adapter.alpha"]
    assert found["train.batch_size"] == ("must be >= 1, got 0 (conf/train/default.yaml; override: train.batch_size=4)")
    assert "must be in (0, 2]" in found["sample.weight"]
    assert "did you mean `cosine`?" in found["scheduler=cosin"] and "choices:" in found["scheduler=cosin"]
    assert "is refused" in found["captions._target_=x"]


def test_knobs_of_a_part_that_does_not_exist_are_not_held_against_another() -> None:
    assert set(problems_of("optimizer=prodigyy", "optimizer.d_coef=2")) == {"optimizer=prodigyy"}


@pytest.mark.parametrize(
    ("override", "where", "message"),
    [
        ("dataset.holdout=0.9", "dataset.holdout", "must be in [0, 0.5]"),
        ("train.max_steps=0", "train.max_steps", "must be >= 1"),
        ("train.epochs=null", "train", "max_steps or epochs must be given"),
        ("sample.seeds=[]", "sample.seeds", "at least one seed"),
        ("sample.seeds=[1,1]", "sample.seeds", "must not repeat"),
        ("sample.weights=[0.4,0.4]", "sample.weights", "must not repeat a weight"),
        ("sample.guidance=-1", "sample.guidance", "must be in [0, 100]"),
        ("sample.steps=999", "sample.steps", "must be in [1, 998], got 999"),
        ("sample.guidance=1e9", "sample.guidance", "must be in [0, 100]"),
        ("sample.seeds=[-1]", "sample.seeds", "must be in [0"),
        ("launcher.threads=0", "launcher.threads", "must be in [1, 1024]"),
        ("sample.width=70", "sample.width", "override: sample.width=72"),
        ("train.device=gpu", "train.device", "must be auto, cpu, cuda"),
        ("dataset.prompts.clas=[a]", "dataset.prompts.clas", "must be one of"),
        ("dataset.path=no/such", "dataset.path", "no such folder"),
        ("captions.trigger=' '", "captions.trigger", "must not be empty"),
        ("captions.extension=txt", "captions.extension", "override: captions.extension=.txt"),
        ("seed=null", "seed", "must be a whole number, got null"),
        ("sweep.total=3", "sweep", "lorasweep sweep NAME"),
        ("adapter.conv_dim=8", "adapter.conv_dim", "it belongs to adapter="),
        ("base=stable_diffusion", "base.path", "must be given"),
        ("optimizer.name=prodigyy", "optimizer.name", "did you mean `prodigy`?"),
        ("adapter.name=../cli", "adapter.name", "no adapter is called"),
        ("buckets.sizes=[[500,512]]", "buckets.sizes", "multiples of base.bucket_step"),
        ("buckets.sizes=[]", "buckets.sizes", "at least one size"),
        ("metrics=burn", "metrics=burn", "must be a list"),
        ("metrics=[burn,brn]", "metrics=brn", "did you mean `burn`?"),
        ("~metrics.brn", "~metrics.brn", "did you mean `burn`?"),
        ("+metrics.luck.x=1", "metrics.luck", "no metrics is called"),
        ("~optimizer", "~optimizer", "needs its optimizer"),
        ("optimizer=null", "optimizer=null", "must name one file"),
        ("seed.x=1", "seed.x=1", "has no keys of its own"),
        ("train={}", "train={}", "must name one file"),
    ],
)
def test_each_rule_names_key_value_and_next_step(override: str, where: str, message: str) -> None:
    assert message in problems_of(override)[where]


def test_two_folders_that_are_not_there_are_told_in_one_round() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_recipe(["base=stable_diffusion", "base.path=no/base", "dataset.path=no/images"])
    assert [problem.where for problem in caught.value.problems] == ["dataset.path", "base.path"]


def test_composing_does_not_import_torch() -> None:
    code = "import sys; from lorasweep import config; config.compose_recipe(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False"


def test_an_installed_package_finds_its_conf_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "lorasweep"
    (package / "_data" / "conf").mkdir(parents=True)
    (tmp_path / "site-packages" / "conf").mkdir()  # somebody else's
    monkeypatch.setattr(places.lorasweep, "__file__", str(package / "__init__.py"))

    assert places.conf_dir() == package / "_data" / "conf"
    assert places.sweeps_dir() == package / "_data" / "sweeps"


def test_regularizers_are_picked_by_name_or_as_a_list_and_turned_under_their_name() -> None:
    assert compose_recipe().regularization == {}
    assert compose_recipe(["regularization=scale_norm"]).regularization == {"scale_norm": {"max_norm": 1.0}}
    turned = compose_recipe(["regularization=[scale_norm]", "regularization.scale_norm.max_norm=10"])
    assert turned.regularization == {"scale_norm": {"max_norm": 10.0}}
    assert compose_recipe(["regularization=scale_norm", "~regularization.scale_norm"]).regularization == {}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["regularization=scalenorm"], "did you mean `scale_norm`"),
        (["regularization.scale_norm.max_norm=1"], "scale_norm is not picked"),
        (["regularization=scale_norm", "regularization.max_norm=1"], "regularization.scale_norm.max_norm"),
        (["regularization=[scale_norm]", "regularization.scale_norm.maxnorm=1"], "did you mean `max_norm`"),
        (["regularization=[scale_norm]", "regularization.scale_norm.max_norm=0"], "must be > 0, got 0"),
    ],
)
def test_what_is_wrong_with_a_regularizer_is_said(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose_recipe(overrides)


@pytest.mark.parametrize(
    "picks",
    [
        {},
        {"adapter": "locon", "regularization": ["scale_norm", "reg_images"]},
        {"base": "dollhouse", "metrics": ["burn"]},
    ],
)
def test_a_tree_is_composed_as_hydra_composes_it(picks: dict[str, str | list[str]]) -> None:
    words = [write(group, choice) for group, choice in picks.items()]
    with initialize_config_dir(version_base=None, config_dir=str(conf_dir())):
        theirs = OmegaConf.to_container(compose(config_name="recipe", overrides=words))
    draw_as_the_base_does(theirs)
    assert compose_tree(parse(words)[0])[0].values == theirs
