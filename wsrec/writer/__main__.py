"""Entry point of the writer process, which the supervisor starts as `python -m wsrec.writer`."""

import sys

from wsrec.pandas_blocker import block_pandas

block_pandas()

from wsrec.quick_end import end_quickly  # noqa: E402 (pyarrow imports pandas while it is imported)
from wsrec.writer.process import main  # noqa: E402

status = main()
end_quickly()
sys.exit(status)
