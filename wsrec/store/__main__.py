"""`python -m wsrec.store`: what the supervisor starts."""

import sys

from wsrec.store.process import main

sys.exit(main())
