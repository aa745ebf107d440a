"""Adapters, one module each: `build(base, *, seed, **knobs) -> protocols.Adapter`; the door to peft.

`build` raises InputError when the file of `init` does not fit, AdapterError when the base has no module of its kind.

`READ_BY` names the programs that read its file as it was judged; without it none does. `LYCORIS_ARGUMENTS` is what
kohya's metadata call a kind that kohya does not read, where that is not its name. A module may also have
`layer_shapes(shape, *, name, **knobs)`, the shapes of the tensors that one layer of the base gets, so that `plan`
counts what will train without torch; `IS_PRODUCT = True` where what it adds is products whose factors may be scaled,
those of `by_module`; `SECOND_FACTOR`, what the names of its second factors' tensors have in them, which LoRA+ trains at
another rate; `SHARES_FORWARD = True` where slots may be `protocols.Factored`; `ADVICE`, usual ranges; and
`problems(*, some, knobs)`, what no single knob's type can say.
"""
