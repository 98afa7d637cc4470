"""Commands, one module each. `command` is the click command. It imports heavy modules only when it runs."""
