"""Pictures and pages made from finished run folders. Reads files only: no torch, no Optuna, no MLflow."""
