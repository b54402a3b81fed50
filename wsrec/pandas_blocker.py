"""Import hook: keeps pandas out of wsrec's own processes, which never use it."""

import sys
from importlib.abc import MetaPathFinder


class _PandasBlocker(MetaPathFinder):
    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """Refuse `import pandas`, as if it was not installed."""
        if name == "pandas":
            raise ModuleNotFoundError("wsrec's own processes do not import pandas", name=name)


def block_pandas() -> None:
    """Refuse every later `import pandas` of this process.

    pyarrow imports pandas, where it is installed, at the first array that is made from a list: 0.3 s of processor time
    and 33 MB at each start. Only entry points of processes call this: who imports wsrec as a library keeps pandas.
    """
    if not any(isinstance(finder, _PandasBlocker) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PandasBlocker())
