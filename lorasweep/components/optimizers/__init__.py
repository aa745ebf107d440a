"""Optimizers, one module each: `build(groups, **knobs) -> torch.optim.Optimizer`.

`groups` maps a part of the model ("unet", "text_encoder") to its trainable tensors; every param group that
comes back carries the part as "name" and its peak lr as "initial_lr", which the schedule scales. A module may
also have `problems(*, some, knobs)`, what no single knob's type can say; `warnings(recipe)`, sentences for `plan`;
`logged(optimizer)`, more numbers to log; and `weights_for_use(optimizer)`, a context in which the tensors are
those to judge and save, where training has others. `FINDS_STEP_SIZE` names the knob to turn where the lr is a
mere multiplier; `ADVICE` has usual ranges.
"""
