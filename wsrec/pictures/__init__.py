"""The figures of a capture as data: what is drawn of it, collected in one pass over its files."""
