"""Learning-rate schedules, one module each: `build(total_steps, **knobs) -> protocols.Schedule`.

Arithmetic only. Steps are optimizer steps; step 0 is the first update. A schedule is asked for one param
group at a time and gets that group's own peak, so the UNet and the text encoder keep their ratio.

Types and ranges of the knobs say what is never right. What has no room in a training of so many steps is in `_warmup`,
unless a module has a `misfits(total_steps, **knobs)` of its own.
"""
