"""Verification of captures: integrity, and the provably complete intervals of each stream."""
