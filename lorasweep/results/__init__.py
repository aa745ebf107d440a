"""What is made from run folders: MLflow runs, reports, LoRA files; and the one lookup of runs."""
