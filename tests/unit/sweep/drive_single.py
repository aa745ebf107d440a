"""One recipe to kill or to stop: `python drive_single.py FOLDER STEP_S`, cooked by the pretend trial."""

import sys
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":
    from pretend_sweep import TRIAL_MODULE, plan, recipe

    from lorasweep.sweep.single import run_trial

    made = recipe(step_s=float(sys.argv[2]))
    try:
        result = run_trial(
            made,
            plan(made),
            Path(sys.argv[1]),
            shown=lambda: nullcontext(lambda event: True),
            trial_module=TRIAL_MODULE,
        )
    except KeyboardInterrupt:
        sys.exit(131)  # raised for the caller's program, when all was written
    sys.exit(result.exit_code)
