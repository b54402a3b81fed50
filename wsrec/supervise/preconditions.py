"""What is checked of a recording before anything is planned.

A cron job starts a recording every few minutes, only to find that it runs: so this must stay quick to import, without
pydantic, numpy or an event loop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wsrec.feed.catalogue import catalogue, is_closed
from wsrec.feed.errors import OptionError
from wsrec.format.lock import refuse_held
from wsrec.format.output_version import check_output
from wsrec.net.proxy import ProxyRules, parse_proxy
from wsrec.options.record import RecordOptions, Selection, WaitStrategy

DEMO = "demo"
"""The synthetic exchange, as a target."""


def check_options(options: RecordOptions) -> None:
    """Check the options that do not depend on the targets.

    Raises:
        OptionError: one cannot be used.

    """
    check_cpus("cpu", options.cpu)
    check_cpus("writer_cpu", options.writer_cpu)
    _check_writers(options)
    check_name(options.out)


def _check_writers(options: RecordOptions) -> None:
    """Check the processors of the writers against those of the receivers."""
    writers, receivers = options.writer_cpu, max(len(options.cpu), 1)
    if len(writers) > receivers:
        each = "one receiver, which has" if receivers == 1 else f"{receivers} receivers, each of which has"
        expected = "expected one" if receivers == 1 else f"expected at most {receivers}"
        raise OptionError("writer_cpu", f"found {len(writers)} processors beside {each} one writer (--cpu), {expected}")
    shared = [cpu for cpu in writers if cpu in options.cpu]
    if options.wait is not WaitStrategy.EPOLL and shared:
        raise OptionError("writer_cpu", f"found {shared[0]}, where a receiver spins; choose another one, or omit it")


def check_free(targets: Sequence[str], options: RecordOptions, selection: Selection, proxies: ProxyRules) -> None:
    """Check that no other recorder holds the output folder, if it is certain that nothing else is wrong.

    A recording checks its folder once more when it takes it. Where targets or options could still be wrong, this does
    nothing: wrong usage is reported first.

    Args:
        targets: as the user named them.
        options: how to record; the proxy among them is one.
        selection: symbols and channels.
        proxies: the proxy rules.

    Raises:
        OptionError: as for `check_options`.
        OutputLockedError: another recorder holds it.
        OtherVersionError: it has files of another version of the format.

    """
    chooses = selection != Selection() or options.ca_file is not None
    if options.takeover or chooses or not _are_feeds(targets) or not _are_proxies(proxies):
        return
    check_options(options)
    check_output(options.out)
    refuse_held(options.out)


def _are_feeds(targets: Sequence[str]) -> bool:
    """Whether they are feeds of the catalogue that can be recorded together without asking anything else."""
    if tuple(targets) == (DEMO,):
        return True
    feeds = catalogue()
    return 0 < len(targets) == len(set(targets)) and all(
        name in feeds and not is_closed(feeds[name]) for name in targets
    )


def _are_proxies(rules: ProxyRules) -> bool:
    """Whether each proxy that the environment names is one."""
    try:
        for name, address in rules.variables.values():
            parse_proxy(address, name)
    except ValueError:
        return False
    return True


def check_cpus(field: str, cpus: Sequence[int]) -> None:
    """Check that this process may run on each of `cpus`, the value of an option.

    Raises:
        OptionError: it may not; the message lists the allowed ones.

    """
    allowed = os.sched_getaffinity(0)
    for cpu in cpus:
        if cpu not in allowed:
            listed = ", ".join(map(str, sorted(allowed)))
            raise OptionError(field, f"found {cpu}, which is not a processor that wsrec may use, expected {listed}")


def check_name(out: Path) -> None:
    """Check that a recording can state its output folder, in JSON, for its processes and its recovery.

    Raises:
        OptionError: the path is not UTF-8.

    """
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        raise OptionError("out", f"found {str(out)!r}, whose bytes are not UTF-8, expected another name") from error
