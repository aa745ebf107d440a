"""The worked example of docs/plugins.md as an installed distribution: its code blocks, and the metadata of pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "plugins.md"
_BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def install(site: Path, *, version: str = "1.0") -> Path:
    """Write the example into a folder that is to be on `sys.path`."""
    for name, text in _BLOCK.findall(DOCS.read_text(encoding="utf-8")):
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (site / "lorasweep_signs" / "__init__.py").touch()
    project = tomllib.loads((site / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return write_metadata(site, project["name"], version, project["entry-points"])


def write_metadata(site: Path, name: str, version: str, groups: dict[str, dict[str, str]]) -> Path:
    """Write what pip notes about an installed distribution."""
    noted = site / f"{name.replace('-', '_')}-{version}.dist-info"
    noted.mkdir(parents=True)
    (noted / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))
    ]
    (noted / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return site
