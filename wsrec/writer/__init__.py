"""The writer process: journal, Parquet, manifest, rotation."""
