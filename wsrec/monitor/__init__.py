"""The checks: sequence gaps, checksums, acknowledgements, stale streams, snapshots. No I/O, no clock of their own."""
