"""In-process client: the receive path in the caller's own process, `wsrec.connect`. Never imports the writer."""
