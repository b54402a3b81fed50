"""wsrec records exchange WebSocket feeds, byte for byte and stamped at six stages, into Parquet."""

from importlib.metadata import version

__version__ = version("wsrec")
