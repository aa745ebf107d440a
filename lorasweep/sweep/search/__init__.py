"""What is tried next and what is stopped early: the Optuna study, its samplers and its pruners."""
