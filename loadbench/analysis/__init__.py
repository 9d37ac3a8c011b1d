"""Pure functions from stored intervals to frames: no I/O, no clock, no plotting."""
