"""Metrics, one module each: `build(**knobs) -> protocols.Metric`, a question asked of a `protocols.JudgeContext`."""
