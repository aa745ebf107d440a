"""One metric each: a question asked of a `JudgeContext`."""
