"""A client that makes a connection and closes it, and the search of its memory for the secrets.

Its output is the random of its ClientHello, then a line for each line of its input: after the first it has used its
keys, after the second it has closed the connection.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from pathlib import Path

from tests.tls.records import DEADLINE, OpensslConnection, client_context
from wsrec.tls.key_log import CLIENT_SECRET, MASTER_SECRET, SERVER_SECRET, KeyLog
from wsrec.tls.keys import SUITES, tls12_keys, tls13_keys
from wsrec.tls.libcrypto import Aead, wipe
from wsrec.tls.sealing import Sending


def secrets_of(log: Path, client_random: bytes) -> dict[str, str]:
    """A handshake's secrets (hex) in a key log, by label; the server's may come late, with the end of the handshake."""
    until, found = time.monotonic() + DEADLINE, {}
    while not ({MASTER_SECRET} <= found.keys() or {CLIENT_SECRET, SERVER_SECRET} <= found.keys()):
        assert time.monotonic() < until, found.keys()
        time.sleep(0.01)
        lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("#")]
        found = {label: secret for label, random, secret in lines if random == client_random.hex()}
    return found


def copies_in(process: int, needles: dict[str, bytes]) -> Counter[str]:
    """How often each of `needles` is in a process's memory."""
    found: Counter[str] = Counter()
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            place, access, *_ = line.split()
            if not access.startswith("r") or "[v" in line:
                continue
            first, last = (int(end, 16) for end in place.split("-"))
            memory.seek(first)
            try:
                content = memory.read(last - first)
            except OSError:
                continue
            for name, needle in needles.items():
                found[name] += content.count(needle)
    return +found


def needles_of(suite: str, secrets: dict[str, str], client_random: bytes, server_random: bytes) -> dict[str, bytes]:
    """What must be in no memory: the secrets, as bytes and as text, and the keys and IVs that come from them."""
    needles = {}
    for label in (CLIENT_SECRET, SERVER_SECRET, MASTER_SECRET):
        if label in secrets:
            needles[label] = bytes.fromhex(secrets[label])
            needles[f"{label} as text"] = secrets[label].encode()
    if MASTER_SECRET in secrets:
        master = bytearray.fromhex(secrets[MASTER_SECRET])
        both = tls12_keys(SUITES[suite], master, client_random, server_random)
    else:
        both = tuple(
            tls13_keys(SUITES[suite], bytearray.fromhex(secrets[label])) for label in (CLIENT_SECRET, SERVER_SECRET)
        )
    for who, keys in zip(("client", "server"), both, strict=True):
        needles[f"{who}'s key"] = bytes(keys.key)
        if len(keys.iv) > 4:
            needles[f"{who}'s iv"] = bytes(keys.iv)
    return needles


def main(mode: str, port: str, ca_file: str, suite: str) -> None:
    context = client_context(Path(ca_file))
    log = KeyLog(context) if mode == "ours" else None
    connection = OpensslConnection(int(port), context)
    print(connection.client_random.hex(), connection.server_random.hex(), flush=True)
    sys.stdin.readline()
    if log is not None:
        secrets = log.take(connection.client_random)
        if MASTER_SECRET in secrets:
            client, server = tls12_keys(
                SUITES[suite], secrets[MASTER_SECRET], connection.client_random, connection.server_random
            )
            wipe(*secrets.values())
        else:
            client, server = (tls13_keys(SUITES[suite], secrets[label]) for label in (CLIENT_SECRET, SERVER_SECRET))
        aead = Aead(SUITES[suite].cipher, server.key)
        if server.version == "TLSv1.3":
            record, into = connection.record(), bytearray(1 << 14)
            nonce = server.nonce()
            assert aead.open(nonce, record[:5], record[5:-16], record[-16:], into)
            wipe(nonce)
            sending = Sending(connection.tls, connection.outgoing, client)
            connection.send(sending.seal(b"by OpenSSL\n"))
            connection.send(sending.key_update())
            connection.send(sending.seal(b"by us\n"))
            server.next().wipe()
    print("used", flush=True)
    sys.stdin.readline()
    connection.__exit__()
    if log is not None:
        if server.version == "TLSv1.3":
            sending.wipe()
            del sending
        aead.wipe()
        client.wipe()
        server.wipe()
        log.close()
    del connection
    gc.collect()
    print("closed", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
