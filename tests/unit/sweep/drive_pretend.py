"""A driver to kill: `python drive_pretend.py FOLDER ARMS STEP_S`.

Spawned workers import this file again, so it imports nothing until it is the program.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    from pretend_sweep import cook, numbered_arms, spec

    result = cook(spec(numbered_arms(int(sys.argv[2]), step_s=float(sys.argv[3]))), Path(sys.argv[1]))
    sys.exit(result.exit_code)
