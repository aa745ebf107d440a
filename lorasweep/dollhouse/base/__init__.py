"""How the dollhouse's base model is made: architectures, training stages, and the command that runs them all."""
