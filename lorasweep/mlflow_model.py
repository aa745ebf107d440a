"""The name under which MLflow models logged before 2026-11-29 find their loader."""

from lorasweep.results.mlflow_model import _load_pyfunc as _load_pyfunc
