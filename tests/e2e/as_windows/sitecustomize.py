"""Makes a process show lorasweep, and only lorasweep, what Windows would: no POSIX modules, calls or signals.

Put this folder on PYTHONPATH. Libraries go on as usual, so what is simulated is our own code alone.
"""

from __future__ import annotations

import builtins
import types
from typing import Any

ABSENT_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
ABSENT = {
    "os": """fork forkpty getegid geteuid getgid getloadavg getpgid getpgrp getsid getuid initgroups killpg lchown
        mkfifo nice pathconf posix_fadvise sched_getaffinity sched_setaffinity sendfile setpgid setsid setuid statvfs
        sysconf uname wait3 wait4 O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK""",
    "signal": """SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 SIG_BLOCK
        SIG_SETMASK alarm pause pthread_kill pthread_sigmask setitimer sigwait""",
    "faulthandler": "register unregister",
    "socket": "AF_UNIX",
    "sys": "abiflags",
}
DIFFERENT = {"os": {"name": "nt"}, "sys": {"platform": "win32"}}


class Masked(types.ModuleType):
    """A module without some of its names; what is set on it is set on the module itself."""

    def __init__(self, module: types.ModuleType) -> None:
        super().__init__(module.__name__)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__["_module"]
        if name in ABSENT.get(module.__name__, "").split():
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} on Windows")
        return DIFFERENT.get(module.__name__, {}).get(name, None) or getattr(module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_module"], name, value)


_import = builtins.__import__


def import_as_on_windows(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> types.ModuleType:
    module = _import(name, globals, locals, fromlist, level)
    if not str((globals or {}).get("__package__")).startswith("lorasweep"):
        return module
    if name.split(".")[0] in ABSENT_MODULES:
        raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
    return Masked(module) if name in ABSENT and level == 0 else module


if __name__ == "sitecustomize":  # and not when a test reads the names above
    builtins.__import__ = import_as_on_windows
