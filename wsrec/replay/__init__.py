"""Replay server: serves captures, text recordings or a synthetic market as an exchange. Never imports the writer."""
