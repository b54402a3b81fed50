"""What to ask an exchange for and how to read its answers: YAML to a typed feed, planned onto connections."""
