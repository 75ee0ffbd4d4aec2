"""The command line: options and screens."""
