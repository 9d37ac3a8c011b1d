"""Measurements: ratios of paired runs on one machine, each beside its floor. `make bench` runs them all."""
