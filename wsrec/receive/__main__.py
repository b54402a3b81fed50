"""Entry point of the receiver process, which the supervisor starts as `python -m wsrec.receive`."""

import sys

from wsrec.receive.process import main

sys.exit(main())
