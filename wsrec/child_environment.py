"""Environment of child processes: only the variables that they need.

Everybody who may inspect a process of this user (/proc/PID/environ, a core dump, a crash report) sees its environment,
and a user's may contain the keys of everything they work with. Variables of a feed (`${NAME}`) are filled in when the
connections are planned, and reach the receiver alone, through a pipe; so do proxy addresses, which may contain a
password.
"""

from __future__ import annotations

import os
import re

INHERITED = "WSREC_PASS_ENV"
"""Names of additional variables to pass on, separated by commas."""

_NEEDED = re.compile(
    # locations and locale
    r"PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|TZDIR|LANG|LANGUAGE|LC_\w+|XDG_\w+_HOME|XDG_RUNTIME_DIR"
    # the interpreter, the dynamic loader, the C library, its resolver, and their instrumentation in tests
    r"|PYTHON\w+|VIRTUAL_ENV|LD_\w+|MALLOC_\w+|GLIBC_TUNABLES|GCONV_PATH|LOCPATH"
    r"|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|(A|T|L|M|UB)SAN_OPTIONS|COVERAGE_\w+"
    # OpenSSL
    r"|SSL_CERT_FILE|SSL_CERT_DIR|SSLKEYLOGFILE|OPENSSL_CONF|OPENSSL_MODULES"
    # which implementation runs; options of a command are only for the process that parses them
    r"|WSREC_PURE|WSREC_PASS_ENV"
)


def child_environment() -> dict[str, str]:
    """The environment for a child process."""
    requested = {name.strip() for name in os.environ.get(INHERITED, "").split(",")}
    return {name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name) or name in requested}


def worker_environment() -> dict[str, str]:
    """The same for a child that uses one core: numpy's thread pools would be useless, and their memory locked."""
    return {**child_environment(), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
