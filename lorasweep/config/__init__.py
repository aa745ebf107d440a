"""From conf/, sweep files and `KEY=VALUE`s to checked records: the one door of Hydra and OmegaConf.

    compose_recipe(overrides) -> Recipe      one recipe
    load_recipe(file)         -> Recipe      one recipe, as shared in a file
    read_recorded(file)       -> Recipe      one recipe, as a run wrote it down
    load_sweep(name_or_file)  -> SweepSpec   a question: arms x seeds, and what answers it
    to_overrides(recipe)      -> KEY=VALUEs     and back: the overrides that compose to it

All raise a ConfigError that lists every problem. Configuration stops here: past this package there are only
frozen records.
"""

from lorasweep.config.override import is_override, texts
from lorasweep.config.places import conf_dir, sweeps_dir
from lorasweep.config.recipe import compose_recipe, take_component
from lorasweep.config.recipe_file import is_recipe_file, load_recipe, read_recorded, to_overrides, with_overrides
from lorasweep.config.sweep import has_axes, load_sweep, named_sweeps, sweep_of_overrides
from lorasweep.config.sweep_spec import Arm, Search, SweepSpec
from lorasweep.config.yaml_file import to_yaml
from lorasweep.core.records import Recipe

__all__ = [
    "Arm",
    "Recipe",
    "Search",
    "SweepSpec",
    "compose_recipe",
    "conf_dir",
    "has_axes",
    "is_override",
    "is_recipe_file",
    "load_recipe",
    "load_sweep",
    "named_sweeps",
    "read_recorded",
    "sweep_of_overrides",
    "sweeps_dir",
    "take_component",
    "texts",
    "to_overrides",
    "to_yaml",
    "with_overrides",
]
