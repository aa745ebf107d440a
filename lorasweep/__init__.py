"""lorasweep: declare a question about LoRA recipes, cook every recipe, measure which one is overcooked."""

__version__ = "0.1.0"
