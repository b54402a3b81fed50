"""The command line: one click command per file. Parses options, calls one function and prints; contains no logic."""
