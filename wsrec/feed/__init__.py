"""Exchange feeds: YAML files to typed feed descriptions. Imports no receive, writer or supervisor code."""
