"""The environment that processes of ours get: what they need, and nothing that lies beside it.

Whoever may look at a process of this user (/proc/PID/environ, a core dump, a crash report) sees its environment, and a
user's has the keys of everything that he works with. What a feed takes from it (`${NAME}`) is filled in by who plans
the connections, and goes to the receiver alone, through a pipe; so do the addresses of proxies, which may have a
password in them.
"""

from __future__ import annotations

import os
import re

HAND_ON = "WSREC_PASS_ENV"
"""Names of further variables to hand on, separated by commas."""

_NEEDED = re.compile(
    # where things are, and how the user writes
    r"PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|TZDIR|LANG|LANGUAGE|LC_\w+|XDG_\w+_HOME|XDG_RUNTIME_DIR"
    # the interpreter, the dynamic loader, the C library, its resolver, and what watches them in tests
    r"|PYTHON\w+|VIRTUAL_ENV|LD_\w+|MALLOC_\w+|GLIBC_TUNABLES|GCONV_PATH|LOCPATH"
    r"|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|(A|T|L|M|UB)SAN_OPTIONS|COVERAGE_PROCESS_START"
    # OpenSSL
    r"|SSL_CERT_FILE|SSL_CERT_DIR|SSLKEYLOGFILE|OPENSSL_CONF|OPENSSL_MODULES"
    # which core runs; the options of a command are for the process that reads it
    r"|WSREC_PURE|WSREC_PASS_ENV"
)


def child_environment() -> dict[str, str]:
    """The environment for a child process."""
    asked = {name.strip() for name in os.environ.get(HAND_ON, "").split(",")}
    return {name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name) or name in asked}


def worker_environment() -> dict[str, str]:
    """The same for a child that uses one core: numpy's thread pools would be made in vain, and their memory locked."""
    return {**child_environment(), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
