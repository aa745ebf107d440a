"""The worked example of docs/plugins.md as an installed distribution: its code blocks, built as pip builds them."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "plugins.md"
_BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def install(site: Path, *, version: str = "1.0", editable: bool = False) -> Path:
    """Install the example into a folder that is to be on `sys.path`; returns the folder of its sources."""
    project = site.with_name(f"{site.name}-sources")
    for name, text in _BLOCK.findall(DOCS.read_text(encoding="utf-8")):
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace('version = "1.0"', f'version = "{version}"'), encoding="utf-8")
    (project / "lorasweep_signs" / "__init__.py").touch()
    build = f"from setuptools import build_meta; build_meta.build_{'editable' if editable else 'wheel'}('dist')"
    (project / "dist").mkdir()
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=project, check=True, capture_output=True)
    (wheel,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    return project


def write_metadata(site: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    """Write what pip notes about an installed distribution of version 3."""
    noted = site / f"{name.replace('-', '_')}-3.dist-info"
    noted.mkdir(parents=True)
    (noted / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 3\n", encoding="utf-8")
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))
    ]
    (noted / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
