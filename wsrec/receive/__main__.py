"""`python -m wsrec.receive`: what the supervisor starts."""

import sys

from wsrec.receive.process import main

sys.exit(main())
