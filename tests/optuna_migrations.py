"""Import it to have Optuna read how its tables have changed, and what they are, once and not for each study."""

from __future__ import annotations

from typing import Any

from optuna.storages._rdb.storage import _VersionManager
from sqlalchemy.orm import configure_mappers

configure_mappers()
_manager = object.__new__(_VersionManager)
_manager.url = "sqlite://"
_script = _manager._create_alembic_script()
_script.get_heads()  # they are read when they are first asked for


def _read_already(manager: Any) -> Any:
    return _script


_VersionManager._create_alembic_script = _read_already  # type: ignore[method-assign]
