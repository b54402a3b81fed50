"""The writer process: journal, Parquet, rotation, recovery. Never imports the supervisor or the readers."""
