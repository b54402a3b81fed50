"""The version of the format on disk: one number for all that wsrec writes.

It stands in each Parquet file's metadata, in each line of the manifest, in each journal and in `session.json`. A change
that a reader could notice raises it: of columns, metadata, events, manifest, layout, ledger or journal. Another version
is not read.
"""

FORMAT_VERSION = 8
