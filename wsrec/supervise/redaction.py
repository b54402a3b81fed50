"""Redaction of the feeds' secrets in log lines, which an exchange may repeat in its responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from wsrec.ipc import LogLine
from wsrec.plan.connections import ConnectionPlan

# minimum length (characters) of a secret that is removed from log lines, and of a key in the path of a URL
_SECRET_LEAST = 8
_KEY_IN_PATH = 16


def redacting(on_log: Callable[[LogLine], None], plans: Sequence[ConnectionPlan]) -> Callable[[LogLine], None]:
    """`on_log` with the secrets of plans replaced by `***`: the writer, which logs answers, does not know them."""
    secrets_of_plans = sorted({secret for plan in plans for secret in secrets_of(plan)}, key=len, reverse=True)

    def log(line: LogLine) -> None:
        on_log(replace(line, message=hidden(line.message), hint=hidden(line.hint), detail=hidden(line.detail)))

    def hidden(value: Any) -> Any:
        match value:
            case str():
                for secret in secrets_of_plans:
                    value = value.replace(secret, "***")
                return value
            case dict():
                return {name: hidden(each) for name, each in value.items()}
            case list() | tuple():
                return [hidden(each) for each in value]
            case _:
                return value

    return log


def secrets_of(plan: ConnectionPlan) -> Iterator[str]:
    """The secrets of a plan that are long enough not to be ordinary words of a log line."""
    parts = urlsplit(plan.url)
    raw = [pair.partition("=")[2] for pair in parts.query.split("&")]
    keys = [part for part in parts.path.split("/") if len(part) >= _KEY_IN_PATH and any(map(str.isdigit, part))]
    of_proxy = "" if plan.proxy is None else plan.proxy.password
    for text in (*raw, *keys, parts.username or "", parts.password or "", of_proxy or "", *plan.headers.values()):
        for secret in (text, unquote(text)):
            if len(secret) >= _SECRET_LEAST and "{" not in secret and secret not in plan.public_url:
                yield secret
