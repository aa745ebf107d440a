"""How the dollhouse's base model is made: architectures, training stages, the command that runs them."""
