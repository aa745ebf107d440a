"""Brakes on overcooking, one module each: `build(**knobs) -> protocols.Brake | protocols.ImageSource`."""
