"""Options of the command line and of run configs, generated from the declarations in `wsrec.options`."""
