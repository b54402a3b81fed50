"""Mistakes on the command line: every command reports them in the same form, and names the source of the value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wsrec.cli.main import main
from wsrec.feed.masking import mask_in_text

RECORD = ("record", "ws://h/p")
# refused for its symbol at the latest
REFUSED = ("record", "binance", "--symbols", "BTC$")


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, [*words], env=environment)


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        ((*RECORD, "--rotate", "1x"), " record: --rotate: found '1x', expected a duration (15m), a size"),
        (
            (*RECORD, "--tls", "stampd"),
            " record: --tls: found 'stampd', expected auto, direct, stamped, ktls or openssl, did you mean `stamped`?",
        ),
        (
            (*RECORD, "--rt-priority", "200"),
            " record: --rt-priority: found '200', expected a whole number from 1 to 99",
        ),
        (
            (*RECORD, "--writer-cpu", "x"),
            " record: --writer-cpu: found 'x', expected processor numbers, as in 2 or 2,3",
        ),
        ((*RECORD, "--cpu", "99999"), " record: --cpu: found 99999, which is not a processor that wsrec may use"),
        ((*RECORD, "--writer-cpu", "99999"), " record: --writer-cpu: found 99999, which is not a processor"),
        (
            (*RECORD, "--ca-file", "/none.pem"),
            " record: --ca-file: found '/none.pem', which does not exist, expected a CA's PEM file",
        ),
        ((*RECORD, "--ca-file", "/"), " record: --ca-file: found '/', which is a folder, expected a CA's PEM file"),
        ((*REFUSED, "--ca-file", ""), " record: --ca-file: found '', expected the name of a file or folder; is a "),
        (
            (*REFUSED, "--out", ""),
            " record: --out: found '', expected the name of a file or folder; is a variable unset?",
        ),
        (("verify", ""), " verify: found '', expected the name of a file or folder; is a variable unset?"),
        (("report", ""), " report: found '', expected the name of a file or folder; is a variable unset?"),
        (("recover", ""), " recover: found '', expected the name of a file or folder; is a variable unset?"),
        (("feeds", "new", "x", "--out", ""), " feeds new: --out: found '', expected the name of a file or folder; "),
        (("record", "binance", "--channels", "tradez"), " record: --channels: binance has no channel 'tradez'"),
        (("record", "binance", "--symbols", "BTC$"), " record: --symbols: symbol 'BTC$': expected "),
        ((*RECORD, "--proxy", "https://h:1"), " record: --proxy: found https://, but TLS to the proxy"),
        ((*RECORD, "--duratoin", "3s"), " record: no such option --duratoin, did you mean `--duration`?"),
        (
            ("record", "demo", "--symbols", "BTCUSDT,ETHUSD"),
            " record: --symbols: demo has no such symbol: found 'ETHUSD', expected BTCUSDT, ETHUSDT or SOLUSDT, did ",
        ),
        (("record",), " record: missing argument 'TARGET...'; see `wsrec record --help`"),
        ((*RECORD, "--duration"), " record: option '--duration' requires an argument; see `wsrec record --help`"),
        (("feeds", "plan", "binanse"), " feeds plan: no feed 'binanse': did you mean `binance`"),
        (("feeds", "sohw"), " feeds: no such command 'sohw', did you mean `show`?"),
        (("recrod",), ": no such command 'recrod', did you mean `record`?"),
        (("xyz",), ": no such command 'xyz'; see `wsrec --help`"),
        (("bench", "saturatd"), " bench: found 'saturatd', expected saturated, paced, recording, limits or all, "),
        (("bench", "--only", "pico"), " bench: --only: found 'pico', expected wsrec, "),
        (("bench", "--rate", "0"), " bench: --rate: found '0', expected a number of at least 1"),
        (("replay", "demo", "--speed", "x"), " replay: --speed: found 'x', expected a positive number or max"),
        (("replay", "demo", "--rate", "0"), " replay: --rate: found '0', expected a number greater than 0"),
        (("replay", "demo", "--loop"), " replay: --speed and --loop are for recordings"),
        (("verify", "/none"), " verify: found '/none', which does not exist"),
        (("recover", "/none"), " recover: found '/none', which does not exist"),
        (("report", "/none"), " report: found '/none', which does not exist, and no file matches it as a pattern"),
        (("replay", "/none"), " replay: found '/none', which does not exist, and no file matches it as a pattern"),
        (("bench", "--from", "/none"), " bench: --from: found '/none', which does not exist"),
        (("bench", "--recording", "/"), " bench: --recording: found '/', which is a folder, expected a file"),
        (
            ("record", "/none.yaml"),
            " record: found '/none.yaml', which does not exist, expected a feed's",
        ),
        (
            ("feeds", "check", "/none.yaml"),
            " feeds check: found '/none.yaml', which does not exist, expected",
        ),
        (
            ("record", "binance", "--symbols", "@/none"),
            " record: --symbols: found '@/none', which does not exist, expected a text file of symbols",
        ),
        (
            ("record", "binance", "--symbols", "@/"),
            " record: --symbols: found '@/', which cannot be read (Is a directory), expected a text file of symbols",
        ),
        ((*RECORD, "--out", __file__), f" record: --out: found '{__file__}', which is a file, expected a folder"),
        (("record", "http://h/p"), " record: found http://, expected a URL that begins with ws:// or wss://"),
        (
            ("record", "demo", "--symbols", "XX/YY"),
            " record: --symbols: demo has no such symbol: found 'XX/YY'",
        ),
        (
            (*RECORD, "--shard", "17/16"),
            " record: --shard: found '17/16', expected NUMBER/OF with a NUMBER from 1",
        ),
        ((*RECORD, "--shard", "1/0"), " record: --shard: found '1/0', expected NUMBER/OF, as in 3/16"),
        ((*RECORD, "--shard", "x"), " record: --shard: found 'x', expected NUMBER/OF, as in 3/16"),
        (
            (*RECORD, "--rotate", "1h,1h"),
            " record: --rotate: found '1h,1h', expected a duration (15m), a size ",
        ),
        ((*RECORD, "--rotate", "1MB,1kB"), " record: --rotate: found '1MB,1kB', expected a duration (15m), a size "),
        (
            (*RECORD, "--ring-size", "5MB"),
            " record: --ring-size: found '5MB', expected a power of two of at least",
        ),
        ((*RECORD, "--max-message", "2GiB"), " record: --max-message: found '2GiB', expected a size of at most 1GiB"),
        (("doctor", "--cpu", "99999"), " doctor: --cpu: found 99999, which is not a processor"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line_names_the_place_and_the_hint(words, reported):
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"wsrec{reported}"), line


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        ("raport", "no such command 'raport', did you mean `report`?"),
        ("captures/", "no such command 'captures/', did you mean `wsrec report captures/`?"),
        (".", "no such command '.', did you mean `wsrec report .`?"),
        ("binance", "no such command 'binance', did you mean `wsrec record binance`?"),
        ("run.yaml", "no such command 'run.yaml', did you mean `wsrec record run.yaml`?"),
        ("$(x)/", "no such command '$(x)/'; see `wsrec --help`"),
        ("report . --bogus", "no such option --bogus; see `wsrec report --help`"),
        ("report . --job 2", "no such option --job, did you mean `--jobs`?"),
        ("record binanse", "no feed 'binanse': did you mean `binance` or `binance-us`? "),
    ],
)
def test_only_what_is_near_is_suggested(words, reported):
    result = run(*words.split())
    assert result.exit_code == 2
    assert reported in result.stderr


@pytest.mark.parametrize(
    "address",
    [
        "wss://user:S3CR3T@h/x y",
        "wss://u:S3CR3T@[bad/x",
        "wss://h:99999/x?apiKey=S3CR3T",
        "wss:/h/x?a=1&signature=S3CR3T",
        "h/x?token=S3CR3T",
        "https://h/x#token=S3CR3T",
        "wss://h:99999/ws/S3CR3T",
        "wss:/h/S3CR3T",
        "wss//h/S3CR3T/x y",
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        "",
        "record",
        "record binance --symbols",
        "record binance --proxy",
        "record ws://h --ca-file",
        "feeds check",
        "feeds plan",
        "feeds show",
        "feeds new",
        "report",
        "verify",
        "export",
        "book",
        "recover",
        "compact",
        "replay",
        "bench --from",
    ],
)
def test_a_secret_in_a_bad_address_is_not_repeated(words, address):
    result = run(*words.split(), address)
    assert result.exit_code == 2
    assert result.stderr
    assert "S3CR3T" not in result.output


def test_what_a_variable_fills_in_is_shown_by_its_name():
    text = "'wss://u:${KEY}@h/x?key=${KEY}&token={token}' and http://u:p@h:1"
    assert mask_in_text(text) == "'wss://u:${KEY}@h/***?key=${KEY}&token={token}' and http://***@h:1"


class TestSource:
    def test_a_variable(self):
        assert run(*RECORD, WSREC_RECORD_ROTATE="1x").stderr.startswith("wsrec record: WSREC_RECORD_ROTATE: found '1x'")
        reported = run("record", "binance", WSREC_RECORD_CHANNELS="tradez").stderr
        assert reported.startswith("wsrec record: WSREC_RECORD_CHANNELS: binance has no channel")

    def test_a_variable_that_is_wrong_for_several_feeds(self):
        reported = run("record", "binance", "okx", WSREC_RECORD_CHANNELS="tradez").stderr
        assert reported.startswith("wsrec record: WSREC_RECORD_CHANNELS: binance has no channel")
        assert reported.count("\n") == 1

    @pytest.mark.parametrize(
        ("command", "variable"),
        [
            (RECORD, "WSREC_RECORD_QUIET"),
            (("feeds", "list"), "WSREC_FEEDS_LIST_JSON"),
            (("bench",), "WSREC_BENCH_QUICK"),
        ],
    )
    def test_a_variable_that_is_neither_true_nor_false(self, command, variable):
        reported = run(*command, **{variable: "maybe"}).stderr
        name = " ".join(word for word in command if word.isalpha())
        problem = f"{variable}: found 'maybe', expected 1, true, yes or on, or 0, false, no or off"
        assert reported == f"wsrec {name}: {problem}\n"

    def test_a_folder_that_cannot_be_made(self):
        result = run(*RECORD, WSREC_RECORD_OUT="/proc/x")
        assert result.exit_code == 1
        assert result.stderr == (
            "wsrec record: WSREC_RECORD_OUT: found '/proc/x', which cannot be written (No such file or directory), "
            "expected a folder that this user can write to\n"
        )

    @pytest.mark.parametrize(
        ("text", "reported"),
        [
            ("feeds:\n - feed: kraken\n   symbols: 3\n", "found 3, expected a list, or a text with commas"),
            ("feeds:\n - feed: kraken\n   symbols: [3]\n", "found 3, expected a text"),
            ("feeds:\n - {feed: 'ws://h/p',\n    subscribe: 3}\n", "found 3, expected a text, or a list of them"),
            ("feeds: kraken\n", "run.yaml:1: feeds: found 'kraken', expected a list"),
            ("feeds: [kraken]\nquiet: maybe\n", "run.yaml:2: quiet: found 'maybe', expected true or false"),
            ("feeds: [kraken]\nwriter-cpu: x\n", "run.yaml:2: writer-cpu: found 'x', expected processor numbers"),
            ("feeds: ['ws://h/p']\nca-file: none.pem\n", "run.yaml:2: ca-file: found 'FOLDER/none.pem', which does"),
            (
                "feeds: ['ws://h/p']\nca-file: .\n",
                "run.yaml:2: ca-file: found 'FOLDER', which is a folder, expected a CA's",
            ),
            (
                "feeds: [{feed: binance, symbols: BTC$}]\nca-file: ''\n",
                "run.yaml:2: ca-file: found '', expected the name of a file or",
            ),
            (
                "feeds: [{feed: binance, symbols: BTC$}]\nout: ''\n",
                "run.yaml:2: out: found '', expected the name of a file or folder",
            ),
            ("feeds: ['ws://h/p']\n\ncpu: 99999\n", "run.yaml:3: cpu: found 99999, which is not a processor"),
            ("feeds: ['ws://h/p']\nproxy: http://u:${ABSENT}@h:1\n", "run.yaml:2: proxy: ${ABSENT}: the environment"),
            (
                "feeds:\n - kraken\n - feed: binance\n   channels: [tradez]\n",
                "run.yaml:4: feeds.1.channels: binance has no channel 'tradez'",
            ),
            ("feeds:\n - {feed: demo,\n    symbols: XUSDT}\n", "run.yaml:3: feeds.0.symbols: demo has no such symbol"),
            ("feeds:\n - {feed: binance,\n    symbols: 'BTC$'}\n", "run.yaml:3: feeds.0.symbols: symbol 'BTC$'"),
            ("feeds:\n - {feed: binance,\n    subscribe: x}\n", "run.yaml:3: feeds.0.subscribe: binance makes its own"),
        ],
    )
    def test_a_run_config(self, tmp_path: Path, text, reported):
        file = tmp_path / "run.yaml"
        file.write_text(text)
        result = run("record", str(file), "--out", str(tmp_path / "out"))
        assert result.exit_code == 2
        assert reported.replace("FOLDER", str(tmp_path)) in result.stderr

    def test_what_was_typed_is_not_blamed_on_the_run_config_that_it_overrides(self, tmp_path: Path):
        file = tmp_path / "run.yaml"
        file.write_text("feeds: [{feed: binance, channels: trades}]\ncpu: 0\n")
        assert run("record", str(file), "--cpu", "99999").stderr.startswith("wsrec record: --cpu: found 99999")
        assert run("record", str(file), "--channels", "x").stderr.startswith("wsrec record: --channels: binance has no")

    def test_both_of_a_conflict(self):
        reported = run(*RECORD, WSREC_RECORD_DURATION="1s", WSREC_RECORD_UNTIL="2100-01-01").stderr
        expected = "WSREC_RECORD_UNTIL: found it beside WSREC_RECORD_DURATION, which excludes it: give one"
        assert reported == f"wsrec record: {expected}\n"

    def test_the_command_line_wins_over_a_variable_that_excludes_it(self):
        planned = run("feeds", "plan", "ws://h/p", "--proxy", "http://h:1", WSREC_FEEDS_PLAN_NO_PROXY="1")
        assert planned.exit_code == 0
        assert "through the proxy http://h:1" in planned.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [("record", ("ws://h/p", "--rotate", "1x")), ("feeds plan", ("nofeed",)), ("report", ("/none",))],
)
def test_json_says_the_same_on_standard_output(command, words):
    result = run(*command.split(), *words, "--json")
    reported = json.loads(result.stdout)
    assert set(reported) == {"status", "error"}
    assert reported["status"] == result.exit_code == 2
    assert result.stderr == f"wsrec {command}: {reported['error']}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [("record", ("demo",)), ("verify", ()), ("recover", ()), ("report", ()), ("replay", ()), ("feeds list", ())],
)
def test_json_by_a_variable(command, words):
    variable = f"WSREC_{command.upper().replace(' ', '_')}_JSON"
    mistake = (*command.split(), *words, "--bogus")
    assert run(*mistake, **{variable: "0"}).stdout == ""
    assert json.loads(run(*mistake, **{variable: "yes"}).stdout)["status"] == 2


def test_json_of_a_failed_replay(tmp_path: Path):
    file = tmp_path / "x.parquet"
    file.write_bytes(b"PAR1")
    for words in ((str(file),), ("demo", "--host", "192.0.2.1")):
        result = run("replay", *words, "--json")
        reported = json.loads(result.stdout)
        assert reported["status"] == result.exit_code == 1
        assert result.stderr == f"wsrec replay: {reported['error']}\n"
