"""Brakes on overcooking, one module each; what its `build(**knobs)` gives: see `protocols.WeightRegularizer`."""
