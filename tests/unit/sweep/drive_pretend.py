"""A driver to kill: `python drive_pretend.py FOLDER ARMS STEP_S [DEATH]`.

DEATH is `module:Class.method:before|after:count` and kills this very process by SIGKILL around the count-th
call of that method. `PRETEND_LAUNCHER` has `LauncherOptions` as JSON.
"""

import sys
from pathlib import Path


def die_around(death: str) -> None:
    """Arm the trap; in the test's process only, the engine has no hooks for it."""
    import functools
    import importlib
    import itertools
    import os
    import signal

    module, path, when, count = death.split(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    calls = itertools.count(1)  # members' threads call as well

    @functools.wraps(original)
    def deadly(*arguments, **options):
        number = next(calls)
        if number == int(count) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if number == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


if __name__ == "__main__":
    import dataclasses
    import json
    import os

    from pretend_sweep import cook, numbered_arms, spec

    from lorasweep.core.records import LauncherOptions, from_dict

    declared = spec(numbered_arms(int(sys.argv[2]), step_s=float(sys.argv[3])))
    if given := os.environ.get("PRETEND_LAUNCHER"):
        declared = dataclasses.replace(declared, launcher=from_dict(LauncherOptions, json.loads(given)))
    if len(sys.argv) > 4:
        die_around(sys.argv[4])
    try:
        result = cook(declared, Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(131)  # raised for the caller's program, when all was written
    if result.halted:
        print(result.halted, file=sys.stderr)
    sys.exit(result.exit_code)
