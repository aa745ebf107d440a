"""Adapters, one module each: `build(base, *, seed, **knobs) -> protocols.Adapter`; the door to peft."""
