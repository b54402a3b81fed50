"""What is on disk: schemas, manifest, capture layout, coverage of sequence numbers."""
