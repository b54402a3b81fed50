"""The options of the command line and run configs, made of the declarations in `wsrec.options`."""
