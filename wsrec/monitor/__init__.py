"""The checks of a feed: sequence gaps, checksums, acknowledgements, stale streams, snapshots. No I/O, no clock."""
