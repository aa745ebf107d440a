"""The files of kohya's trainers.

    config.toml, dataset.toml  ->  files      one flat set of options, and the subsets of images; also from what the
                                              GUIs over sd-scripts save (gui) and a command line;
                                              musubi-tuner's are read alike (flow)
                               ->  options    the table: what becomes of each option of sd-scripts
                               ->  translate  what is not one key each: images, network, optimizer, schedule

Source of all names and defaults: kohya-ss/sd-scripts at 48d368fa, train_network.py, library/train_util.py,
library/config_util.py, networks/lora.py; kohya-ss/musubi-tuner at 30c658c, training/parser_common.py,
training/trainer_base.py, dataset/config_utils.py, dataset/bucket.py, networks/lora_*.py.
"""

from lorasweep.config.kohya.files import read
from lorasweep.config.kohya.options import TABLE
from lorasweep.config.kohya.translate import translate

__all__ = ["TABLE", "read", "translate"]
