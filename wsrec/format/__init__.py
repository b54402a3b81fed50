"""The on-disk format: schemas, manifest, capture layout, coverage of sequence numbers."""
