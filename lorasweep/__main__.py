"""`python -m lorasweep`: the same as the `lorasweep` command."""

import sys

from lorasweep.cli import main

if __name__ == "__main__":
    sys.exit(main())
