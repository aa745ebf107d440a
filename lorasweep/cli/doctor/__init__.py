"""Is this machine fit to cook on? Small checks, each with what was found and the next step.

    record.py     what a check says
    software.py   Python, libraries, torch and its device, optional extras, the embedded base
    machine.py    memory, disk, folders, the MLflow store, the UI's port
    cook.py       a real recipe in a process of its own, for seconds

Nothing is changed: what is written goes to temporary places and is removed.
"""

from lorasweep.cli.doctor.record import Check, State
from lorasweep.cli.doctor.run import examine

__all__ = ["Check", "State", "examine"]
