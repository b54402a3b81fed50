"""Proxy selection: from an option, the feed, or the environment with curl's rules.

An address without a scheme is that of an HTTP proxy. `socks5://` is treated as `socks5h://`: the proxy resolves the
exchange's name, which is never looked up here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from wsrec.net.ports import DEFAULT_PORTS

_SCHEMES = frozenset({"http", "socks5", "socks5h"})
_EXPECTED = (
    "expected http://HOST:PORT or socks5h://HOST:PORT, with USER:PASSWORD@ before HOST if the proxy needs them "
    "(in these / # ? % and @ as %2F %23 %3F %25 %40)"
)
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")
# RFC 1929: one length byte each
_SOCKS_MOST = 255
# proxy variables by the URL's scheme, in order of precedence
_VARIABLES = {
    "wss": ("wss_proxy", "https_proxy", "all_proxy"),
    "ws": ("ws_proxy", "http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
    "http": ("http_proxy", "all_proxy"),
}
_EXEMPT = "no_proxy"


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy's address and credentials.

    Attributes:
        scheme: `http` (CONNECT) or `socks5h` (SOCKS5, names looked up by the proxy).
        host, port: address of the proxy.
        username, password: None without authentication.
        source: where the address came from, for error messages: `--proxy`, `HTTPS_PROXY`.

    """

    scheme: Literal["http", "socks5h"]
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    source: str = "--proxy"

    @property
    def public(self) -> str:
        """The address without user name and password."""
        return f"{self.scheme}://{host_and_port(self.host, self.port)}"


def host_and_port(host: str, port: int) -> str:
    """`HOST:PORT`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_proxy(text: str, source: str = "--proxy") -> Proxy:
    """Parse a proxy's address.

    Args:
        text: `http://`, `socks5h://` or `socks5://`, or `HOST:PORT` of an HTTP proxy.
        source: see `Proxy`.

    Raises:
        ValueError: not a proxy's address; the message says what was expected and repeats nothing of `text`.

    """
    if not text.isprintable() or " " in text:
        raise ValueError(_EXPECTED)
    address = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(address)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
        # a character may become a dot (U+2024), and only then a part of the name is empty
        host.encode("idna")
        user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    except ValueError:
        raise ValueError(_EXPECTED) from None
    if parts.scheme == "https":
        raise ValueError(f"found https://, but TLS to the proxy itself is not supported; {_EXPECTED}")
    if parts.scheme in ("socks", "socks4", "socks4a"):
        raise ValueError(f"found {parts.scheme}://, but only SOCKS version 5 is supported; {_EXPECTED}")
    if parts.scheme not in _SCHEMES or not _HOST.fullmatch(host) or port == 0:
        raise ValueError(_EXPECTED)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(_EXPECTED)
    scheme: Literal["http", "socks5h"] = "http" if parts.scheme == "http" else "socks5h"
    if user is not None:
        _check_user(scheme, user, password or "")
    return Proxy(
        scheme=scheme,
        host=host,
        port=port or DEFAULT_PORTS[parts.scheme],
        username=user,
        password=None if user is None else password or "",
        source=source,
    )


def _check_user(scheme: str, user: str, password: str) -> None:
    if not (user + password).isprintable():
        raise ValueError("found a non-printable character in the user name or password, expected none")
    if scheme == "http" and ":" in user:
        raise ValueError("found a colon in the user name, which HTTP does not allow (RFC 7617)")
    if scheme == "socks5h" and not (user and max(len(user.encode()), len(password.encode())) <= _SOCKS_MOST):
        raise ValueError(
            f"found no user name, or more than {_SOCKS_MOST} bytes, which SOCKS5 does not allow (RFC 1929)"
        )


class ProxyRules(msgspec.Struct, frozen=True, kw_only=True):
    """Proxy selection rules. May hold passwords, so they are never stored.

    Attributes:
        none: use no proxy, whatever else is configured.
        given: address of a proxy for all hosts, loopback included.
        source: where `given` came from.
        variables: by lower-case variable name: the name as it is set in the environment, and the address.
        exempt: hosts that the environment excludes (`NO_PROXY`).

    """

    none: bool = False
    given: str | None = None
    source: str = "--proxy"
    variables: dict[str, tuple[str, str]] = {}
    exempt: str = ""

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str], *, none: bool = False, given: str | None = None, source: str = "--proxy"
    ) -> ProxyRules:
        """Build the rules from the environment and the options."""
        found = {}
        for name in {*(name for names in _VARIABLES.values() for name in names), _EXEMPT}:
            # as curl and urllib do: lower case takes precedence, and an empty lower-case variable disables the other
            spelled = next((spelled for spelled in (name, name.upper()) if spelled in environment), None)
            # CGI programs get a request's `Proxy:` header as HTTP_PROXY (httpoxy), so it is ignored there
            if spelled is None or (spelled == "HTTP_PROXY" and "REQUEST_METHOD" in environment):
                continue
            if value := environment[spelled].strip():
                found[name] = (spelled, value)
        _, exempt = found.pop(_EXEMPT, ("", ""))
        return cls(none=none, given=given, source=source, variables=found, exempt=exempt)

    def for_feed(self, proxy: str | None, name: str) -> ProxyRules:
        """These rules with the feed's own proxy, which ranks below the options and above the environment."""
        if proxy is None or self.none or self.given is not None:
            return self
        return msgspec.structs.replace(self, given=proxy, source=f"`proxy` of {name}")

    def of(self, url: str) -> Proxy | None:
        """The proxy to use for `url`; None for a direct connection.

        Raises:
            ValueError: the configured address is invalid; the message names the option, key or variable.

        """
        if self.none:
            return None
        if self.given is not None:
            return self._parsed(self.given, self.source)
        found = self._variable(url)
        if found is None or is_here(_host(url)):
            return None
        name, address = found
        return self._parsed(address, name)

    def passed_over(self, url: str) -> str | None:
        """The proxy variable that is ignored for `url` because the host is this machine; else None."""
        found = None if self.none or self.given is not None else self._variable(url)
        return found[0] if found is not None and is_here(_host(url)) else None

    def _variable(self, url: str) -> tuple[str, str] | None:
        parts = urlsplit(url)
        names = _VARIABLES.get(parts.scheme, ())
        found = next((self.variables[name] for name in names if name in self.variables), None)
        if found is None or is_exempt(_host(url), parts.port or DEFAULT_PORTS[parts.scheme], self.exempt):
            return None
        return found

    @staticmethod
    def _parsed(address: str, source: str) -> Proxy:
        try:
            return parse_proxy(address, source)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None


DIRECT = ProxyRules()
"""No proxy for anything."""


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """True if `NO_PROXY` excludes a host.

    Args:
        host: a name or an IP address, without brackets.
        port: the destination port.
        no_proxy: entries separated by commas or spaces: `*`, names (subdomains included, with or without a leading
            `.` or `*.`), IP addresses and networks (`10.0.0.0/8`); names and addresses may carry a port.

    """
    host = host.lower().rstrip(".")
    here = _address(host)
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if entry == "*":
            return True
        if "/" in entry:
            if here is not None and here in _network(entry):
                return True
            continue
        name, of_port = _split_port(entry)
        if of_port not in ("", str(port)):
            continue
        named = _address(name)
        if here is not None or named is not None:
            if here == named:
                return True
            continue
        name = name.removeprefix("*").strip(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _split_port(entry: str) -> tuple[str, str]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]*))?", entry)
    if bracketed is not None:
        return bracketed[1], bracketed[2] or ""
    if entry.count(":") != 1:
        return entry, ""
    name, _, port = entry.partition(":")
    return name, port


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | tuple[()]:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return ()


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def is_private(host: str) -> bool:
    """True for a name or address of this machine, and for an address of a private network."""
    address = _address(host.partition("%")[0])
    return is_here(host) or (address is not None and address.is_private)


def is_here(host: str) -> bool:
    """True for a name or address of this machine."""
    address = _address(host.partition("%")[0])
    if address is not None:
        return address.is_loopback
    return host.rstrip(".").lower().rpartition(".")[2] == "localhost"
