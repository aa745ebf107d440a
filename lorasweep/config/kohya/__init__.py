"""From a kohya (sd-scripts) TOML to a recipe of ours, and a list of what could not come along.

    config.toml, dataset.toml  ->  toml_files  one flat set of options, and the subsets of images
                               ->  budget, images, network, ...  each option looked up and translated
                               ->  draft       recipe keys with where they come from, and what is left out
                               ->  write       a recipe file

`options` says of every option of sd-scripts what becomes of it: it is data, and docs/flags.md is checked
against it. Nothing is trained, downloaded or changed; the TOML is only read.

Source of all names and defaults: kohya-ss/sd-scripts at 48d368fa, train_network.py, library/train_util.py,
library/config_util.py, networks/lora.py.
"""

from lorasweep.config.kohya.translate import Imported, import_kohya
from lorasweep.config.kohya.write import imported_json, recipe_text

__all__ = ["Imported", "import_kohya", "imported_json", "recipe_text"]
