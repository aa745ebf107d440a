"""Who does the work: worker processes, seen from the driver and from inside."""
