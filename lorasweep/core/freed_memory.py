"""Keep what a process has let go of, for what it asks for next.

glibc gives large blocks back to the kernel, which fills each new page with zeros at its first use: in training on a CPU
some thousand pages a step, a tenth of its time (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import platform

# malloc.h: mallopt(3)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_SIZES = {_M_TRIM_THRESHOLD: 2**30, _M_TOP_PAD: 2**26, _M_MMAP_THRESHOLD: 2**25}  # the last is the most that it takes


def keep_freed_memory() -> None:
    """Have this process keep up to 1 GiB that it lets go of.

    Nothing changes where malloc is not glibc's, or the environment tunes it (`MALLOC_...`, `GLIBC_TUNABLES`).
    """
    tuned = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if platform.libc_ver()[0] == "glibc" and not tuned:
        libc = ctypes.CDLL(None)
        for option, size in _SIZES.items():
            libc.mallopt(option, size)
