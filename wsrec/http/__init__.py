"""The HTTP client behind tokens, symbol listings and snapshots. Imports only `wsrec.net`."""
