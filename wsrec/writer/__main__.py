"""Entry point of the writer process, which the supervisor starts as `python -m wsrec.writer`."""

import sys

from wsrec.writer.process import main

sys.exit(main())
