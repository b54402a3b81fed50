"""The receive path in the caller's own process: `wsrec.connect`."""
