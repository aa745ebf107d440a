"""`options.yaml`: what becomes of every option of sd-scripts' LoRA training."""

from pathlib import Path

from lorasweep.config.importing.draft import read_table

TABLE = read_table(Path(__file__).with_name("options.yaml"))
DEFAULTS = {name: option.default for name, option in TABLE.translated.items() if option.default is not None}
KNOWN = {*TABLE.translated, *TABLE.unsupported, *TABLE.harmless}
