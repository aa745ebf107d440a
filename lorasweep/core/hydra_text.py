"""Text in Hydra's grammar of overrides."""

from __future__ import annotations

import re


def in_quotes(text: str) -> str:
    """Write text in quotes, where a backslash only matters before a quote and at the end, and is doubled there."""
    escaped = re.sub(r'(\\*)"', lambda match: match.group(1) * 2 + '\\"', text)
    return '"' + re.sub(r"(\\+)$", lambda match: match.group(1) * 2, escaped) + '"'
