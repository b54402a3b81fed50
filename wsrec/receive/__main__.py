"""Entry point of the receiver process, which the supervisor starts as `python -m wsrec.receive`."""

import sys

from wsrec.quick_end import end_quickly
from wsrec.receive.process import main

status = main()
end_quickly()
sys.exit(status)
