"""`python -m wsrec.writer`: what the supervisor starts."""

import sys

from wsrec.writer.process import main

sys.exit(main())
