"""The version of wsrec, defined only here."""

__version__ = "0.1.0"
