"""The commands, a module each: `command` is the click command, and imports what is heavy when it runs."""
