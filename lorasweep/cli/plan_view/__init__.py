"""Show a plan to people: as tables, and its learning rates as a picture. No torch; runs nothing."""
