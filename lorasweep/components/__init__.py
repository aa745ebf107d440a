"""What a recipe is put together from: one module and one YAML each, in folders named as in `conf/`."""
