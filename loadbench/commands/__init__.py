"""Commands: what each takes and does. `add` of a module describes it; what is slow to import, a command imports."""
