"""Reaching a host: name resolution, address selection, proxies, TLS trust, retry policy. Imports no other room."""
