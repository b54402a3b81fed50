"""The supervisor of a recording: starts receiver and writer, signals, lock, live view, exit status."""
