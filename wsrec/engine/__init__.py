"""One function over many files: here, in processes of this machine, or on an Apache Spark cluster.

Everything that reads a capture is written as a function from one `Item` (a file, or files that belong together: a pair,
an hour, a session) to a result, and as a merge of two results. An `Engine` runs it; which one makes no difference to
the outcome. The contract:

    function    a function or an object of an importable module (`wsrec...`), because it is pickled by name. It reads
                the item's files, changes nothing else than what its command is for, and may run twice for an item:
                Spark repeats what a lost worker had in hand.
    Item        a `msgspec.Struct` with the `files` that the function reads, so that a worker to which one of them is
                not visible can name it, and their `size` in bytes, for progress and equal shares. Subclass it for more.
    result      a plain value that pickle knows: bytes, msgspec structs, numpy arrays; not a file, an Arrow reader or a
                lambda. Problems with a file belong into the result; an exception ends the whole run as an
                `EngineError` that names the item.
    merge       associative: merge(merge(a, b), c) equals merge(a, merge(b, c)). It may change its first argument.
                Better is one that does not depend on the order at all, but none has to:
    order       `Engine.map` yields results in the order of the items, and `reduce` merges neighbours in it, so that one
                process, many and Spark give equal results byte for byte.

    >>> with engine_for(EngineOptions(jobs=4)) as engine:
    ...     total = reduce(engine, count_rows, operator.add, [Item(files=("a.parquet",)), Item(files=("b.parquet",))])

`wsrec.engine.work` is what a caller needs; `wsrec.engine.choose.engine_for` makes the engine of `--jobs` and `--spark`.
"""
