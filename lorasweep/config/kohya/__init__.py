"""From the files of kohya's trainers to a recipe of ours, and a list of what could not come along.

    config.toml, dataset.toml  ->  files      one flat set of options, and the subsets of images; also from the JSON of
                                              kohya_ss (gui), the TOML of Easy Training Scripts (easy_training) and a
                                              command line (command_line); musubi-tuner's are read alike (flow)
                               ->  options    the table: what becomes of each option of sd-scripts
                               ->  translate  what is not one key each: images, network, optimizer, schedule
                               ->  importing  the recipe file

docs/flags.md is checked against the table. Nothing is trained, downloaded or changed; the TOML is only read.

Source of all names and defaults: kohya-ss/sd-scripts at 48d368fa, train_network.py, library/train_util.py,
library/config_util.py, networks/lora.py; kohya-ss/musubi-tuner at 30c658c, training/parser_common.py,
training/trainer_base.py, dataset/config_utils.py, dataset/bucket.py, networks/lora_*.py.
"""

from lorasweep.config.kohya.translate import import_kohya

__all__ = ["import_kohya"]
