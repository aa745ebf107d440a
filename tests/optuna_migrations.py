"""Import it to have Optuna read once, and not for each study, how its tables have changed."""

from __future__ import annotations

from typing import Any

from optuna.storages._rdb.storage import _VersionManager

_manager = object.__new__(_VersionManager)
_manager.url = "sqlite://"
_script = _manager._create_alembic_script()
_script.get_heads()  # they are read when they are first asked for


def _read_already(manager: Any) -> Any:
    return _script


_VersionManager._create_alembic_script = _read_already  # type: ignore[method-assign]
