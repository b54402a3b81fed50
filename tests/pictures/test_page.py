"""The HTML report in a real Chromium: what it shows, what it does when used, and that nothing in it can reach out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pictures.made_up import HOSTILE, pictures
from wsrec.pictures.page import MOST_BYTES, page, write_page
from wsrec.pictures.page_data import FRAME

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ASSETS = Path(__file__).parents[2] / "wsrec" / "pictures" / "assets"
FIGURES = (
    *("composition", "latency", "rate", "delay", "curves-step", "curves-channel", "curves-connection", "curves-delay"),
    *("events", "coverage"),
)


class Opened:
    """A page in the browser, with what it said and asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1000, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.context.route("**/*", self._asked)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#circumstances")

    def _asked(self, route: Any) -> None:
        url = route.request.url
        if url.startswith("file:") and not self.requests:
            self.requests.append(url)
            route.continue_()
        else:
            self.requests.append(url)
            route.abort()

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def until(self, condition: str) -> None:
        """Wait for an expression to be true; `wait_for_function` needs `eval`, which the page forbids."""
        deadline = time.monotonic() + 60
        while not self.run(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)

    def saved(self, selector: str) -> tuple[str, str]:
        """The name and content of what a button saves."""
        with self.page.expect_download() as download:
            self.page.click(selector)
        return download.value.suggested_filename, Path(download.value.path()).read_bytes().decode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one capture."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page([pictures()], path)
    return path


@pytest.fixture(scope="module")
def opened(browser: Any, report_file: Path) -> Opened:
    """The page of one capture, at 1,000 pixels, for tests that leave it as it was."""
    return Opened(browser, report_file)


class TestShown:
    def test_every_figure_is_drawn(self, opened):
        for name in FIGURES:
            shapes = opened.run(f"document.querySelectorAll('#{name} .plot svg path').length")
            assert shapes > 4, name
            assert opened.run(f"document.querySelector('#{name} .caption').textContent.length") > 60

    def test_the_verdict_comes_first(self, opened):
        verdict = opened.page.inner_text("main section >> nth=0")
        assert verdict.startswith("Incomplete: 1 gap in the exchange's numbers, 1 lost interval (6.00 s).")
        assert "TLS mode\ndirect" in verdict

    def test_the_shares_of_a_bar_are_those_of_the_data(self, opened):
        labels = opened.run("[...document.querySelectorAll('#composition svg text')].map((each) => each.textContent)")
        middle = next(each for each in pictures().figures[0].compositions if each.percentile == 50)
        assert f"{middle.mean / 1000:.1f}\u202fµs" in labels
        assert f"{middle.shares[0].mean / 1000:.1f}\u202fµs" in labels

    def test_who_cannot_see_it_is_told_what_it_shows(self, opened):
        plots = opened.page.locator(".plot")
        for at in range(plots.count()):
            assert plots.nth(at).get_attribute("role") == "img"
            assert len(plots.nth(at).get_attribute("aria-label")) > 20
        assert opened.run(
            "[...document.querySelectorAll('section')].every((each) => each.matches('[aria-labelledby]'))"
        )
        assert opened.run("document.querySelectorAll('h1').length") == 1

    @pytest.mark.parametrize("width", [400, 1000, 1800])
    def test_it_fits_the_width(self, browser, opened, report_file, width):
        opened.page.set_viewport_size({"width": width, "height": 900})
        opened.until(
            "[...document.querySelectorAll('.plot')].every((each) => each.firstChild.clientWidth === each.clientWidth)"
        )
        assert opened.run("document.documentElement.scrollWidth") <= width
        outside = "(each) => each.getBoundingClientRect().right > innerWidth + 1"
        assert not opened.run(f"[...document.querySelectorAll('.plot svg, h2, button, dd')].some({outside})")


class TestUsed:
    def test_the_pointer_shows_what_is_there(self, opened):
        opened.page.hover("#latency .plot", position={"x": 300, "y": 150})
        text = opened.page.wait_for_selector("#latency .plot div.tip").inner_text()
        assert re.search(r"p50\s+2\d\.\d\u202fµs", text)
        assert "13:" in text

    def test_a_click_on_a_spike_shows_its_frames(self, opened):
        latency = pictures().figures[0].over_time.latency[0]
        begins = pictures().figures[0].over_time.begins
        at = max(range(len(latency.max)), key=lambda each: latency.max[each])
        place = opened.run(
            "document.querySelector('#latency .plot').chart.convertToPixel({gridIndex: 0}, "
            f"[{(begins[at] + 4_000_000_000) / 1e6}, {latency.max[at]}])"
        )
        opened.page.click("#latency .plot", position={"x": place[0], "y": place[1]})
        frames = opened.page.inner_text("#latency .frames tbody").splitlines()
        assert len(frames) == 3
        for row, index in zip(frames, latency.slowest[at], strict=True):
            assert str(latency.slow[index].seq) in row.split("\t")
        assert opened.page.get_attribute("#latency .moments button[aria-pressed=true]", "type") == "button"
        opened.page.click("#latency .moments button[aria-pressed=true]")

    def test_moments_are_chosen_by_keyboard(self, opened):
        opened.page.focus("#latency .moments button")
        opened.page.keyboard.press("Enter")
        assert "The slowest frames of the" in opened.page.inner_text("#latency .frames caption")
        opened.page.keyboard.press("Enter")
        assert "slowest frames of all" in opened.page.inner_text("#latency .frames caption")

    def test_light_and_dark(self, browser, report_file):
        dark = Opened(browser, report_file, scheme="dark")
        background = "getComputedStyle(document.body).backgroundColor"
        line = "document.querySelector('#curves-step svg path[fill=none]').getAttribute('stroke')"
        before = dark.run(background), dark.run(line)
        dark.page.click("#theme")
        after = dark.run(background), dark.run(line)
        assert before[0] == "rgb(14, 17, 22)"
        assert before[0] != after[0]
        assert before[1] != after[1]
        # paper is light whatever the screen shows, and has no buttons
        dark.page.click("#theme")
        dark.page.emulate_media(media="print")
        dark.until("document.documentElement.dataset.theme === 'light'")
        assert dark.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
        assert dark.run("document.querySelector('#latency svg').clientWidth") == 676
        dark.page.emulate_media(media="screen")
        dark.until("document.documentElement.dataset.theme === 'dark'")
        assert not dark.messages

    def test_the_slider_zooms_all_figures_over_time(self, opened):
        def shown(name):
            zoom = f"document.querySelector('#{name} .plot').chart.getOption().dataZoom[0]"
            return opened.run(f"[{zoom}.startValue, {zoom}.endValue]")

        opened.page.locator("#latency .plot").scroll_into_view_if_needed()
        box = opened.page.locator("#latency .plot").bounding_box()
        handle, slider = box["x"] + 59, box["y"] + box["height"] - 11
        opened.page.mouse.move(handle, slider)
        opened.page.mouse.down()
        opened.page.mouse.move(handle + 300, slider, steps=4)
        opened.page.mouse.up()
        begins = pictures().figures[0].over_time.begins
        opened.until("document.querySelector('#latency .plot').chart.getOption().dataZoom[0].start > 10")
        chosen = shown("latency")
        assert begins[0] / 1e6 < chosen[0] < chosen[1]
        for name in ("rate", "delay", "events", "coverage"):
            assert shown(name) == pytest.approx(chosen, abs=1), name
        opened.page.mouse.move(handle + 300, slider)
        opened.page.mouse.down()
        opened.page.mouse.move(handle - 20, slider, steps=4)
        opened.page.mouse.up()
        opened.until("document.querySelector('#rate .plot').chart.getOption().dataZoom[0].start === 0")

    def test_numbers_as_a_table(self, opened):
        opened.page.click("#rate summary")
        rows = opened.page.locator("#rate tbody tr")
        # made when it is opened
        rows.first.wait_for()
        assert rows.count() == len(pictures().figures[0].over_time.begins)

    def test_figures_are_saved(self, opened):
        name, svg = opened.saved("#curves-channel .svg")
        assert name == "wsrec-binance-curves-channel.svg"
        assert svg.startswith("<svg")
        assert "99.9" in svg
        name, table = opened.saved("#latency .top .csv")
        rows = list(csv.DictReader(io.StringIO(table)))
        over_time = pictures().figures[0].over_time
        assert name == "wsrec-binance-latency.csv"
        assert [int(row["begin_ns"]) for row in rows] == over_time.begins
        assert [int(row["max_ns"]) for row in rows] == over_time.latency[0].max
        _, table = opened.saved("#curves-channel .csv")
        (row,) = [row for row in csv.DictReader(io.StringIO(table)) if "onerror" in row["channel"]]
        assert int(row["p99_ns"]) > 0


class TestHostile:
    def test_names_are_text(self, opened):
        assert opened.run("document.querySelectorAll('img, main script').length") == 0
        assert "</script><img" in opened.page.inner_text("#curves-channel .key")
        assert "</script><img" in opened.run("document.querySelector('#coverage svg').textContent")
        opened.page.hover("#curves-channel .plot", position={"x": 250, "y": 120})
        assert "</script><img" in opened.page.wait_for_selector("#curves-channel .plot div.tip").inner_text()
        assert opened.run("document.querySelectorAll('img, main script').length") == 0

    def test_nothing_is_said_and_nothing_asked_for(self, opened, report_file):
        """Runs after what the tests above did with the page."""
        assert not opened.messages
        assert not opened.dialogs
        assert opened.requests == [report_file.as_uri()]

    def test_the_page_cannot_reach_out(self, browser, report_file):
        page = Opened(browser, report_file)
        blocked = page.run(
            "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')",
        )
        assert blocked == "blocked"
        page.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
        page.run(
            "{ const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); }"
        )
        assert page.run("window.ran") is None
        assert page.requests == [report_file.as_uri()]
        assert any("Content Security Policy" in message for message in page.messages)

    def test_long_and_strange_names(self, browser, tmp_path):
        made = pictures()
        name = "\x00\x1b]0;x\x07\u2028" + HOSTILE + "x" * 1_000_000
        recording = msgspec.structs.replace(made.report.recordings[0], feed=name, host=name, warnings=[name])
        figures = msgspec.structs.replace(
            made.figures[0],
            curves=[
                msgspec.structs.replace(each, curves=[msgspec.structs.replace(one, name=name) for one in each.curves])
                for each in made.figures[0].curves
            ],
            lines=[
                msgspec.structs.replace(
                    line,
                    moments=[msgspec.structs.replace(each, text=name, symbol=name) for each in line.moments],
                )
                for line in made.figures[0].lines
            ],
        )
        report = msgspec.structs.replace(made.report, recordings=[recording], errors=[name] * 50)
        size = write_page(
            [msgspec.structs.replace(made, sources=[name], report=report, figures=[figures])], tmp_path / "page.html"
        )
        assert size < 2_000_000
        page = Opened(browser, tmp_path / "page.html", width=400)
        assert page.run("document.documentElement.scrollWidth") <= 400
        assert not page.messages
        assert not page.dialogs


class TestAgainst:
    def test_both_are_in_each_figure(self, browser, tmp_path):
        write_page([pictures(), pictures(seed=2, slower=2.0)], tmp_path / "page.html")
        page = Opened(browser, tmp_path / "page.html", width=1800)
        assert page.run("document.querySelectorAll('.verdict').length") == 2
        for name in ("latency", "rate", "delay", "events", "coverage"):
            assert page.run(f"document.querySelectorAll('#{name} .plot svg').length") == 2, name
        labels = page.run("[...document.querySelectorAll('#composition svg text')].map((each) => each.textContent)")
        assert {"p50 A", "p50 B", "p99 A", "p99 B"} <= set(labels)
        assert page.run("document.querySelectorAll('#curves-channel svg path[stroke-dasharray]').length") >= 3
        assert "NIC\u00a0→ HANDOFF, p50" in page.page.inner_text("#differences")
        _, table = page.saved("#differences .csv")
        rows = {row["measure"]: row for row in csv.DictReader(io.StringIO(table))}
        assert float(rows["Gaps"]["ratio"]) == 1
        assert page.run("document.documentElement.scrollWidth") <= 1800
        assert not page.messages


class TestSeveral:
    def test_a_recording_and_its_total_are_chosen(self, browser, tmp_path):
        """Another feed of the capture, which has frames with stage 1 and frames without."""
        made = pictures()
        (own,), (figures,) = made.report.recordings, made.figures
        latency = figures.over_time.latency[0]
        other = msgspec.structs.replace(latency, key="event_to_handoff", name="EVENT->HANDOFF", count=[1] * 444)
        both = msgspec.structs.replace(figures.over_time, latency=[latency, other])
        feeds = [own, msgspec.structs.replace(own, feed="second", host="osaka2")]
        report = msgspec.structs.replace(made.report, recordings=feeds)
        drawn = [figures, msgspec.structs.replace(figures, over_time=both)]
        write_page([msgspec.structs.replace(made, report=report, figures=drawn)], tmp_path / "page.html")
        page = Opened(browser, tmp_path / "page.html")
        assert page.page.inner_text("#where").startswith("binance on tokyo1")
        assert page.page.locator("#choices select").count() == 1
        page.page.select_option("#choices select", label="second on osaka2")
        assert page.page.inner_text("#where").startswith("second on osaka2")
        assert "NIC\u00a0→ HANDOFF" in page.page.inner_text("#latency h2")
        page.page.select_option("#choices select >> nth=1", value="event_to_handoff")
        assert "EVENT\u00a0→ HANDOFF" in page.page.inner_text("#latency h2")
        assert page.run("document.querySelectorAll('#latency svg').length") == 1
        assert page.page.locator("#composition").count() == 0
        assert not page.messages


class TestLittle:
    def test_events_without_a_message(self, browser, tmp_path):
        """A recorder that never got anything: its events are drawn where they happened."""
        made = pictures()
        figures = msgspec.structs.replace(
            made.figures[0], over_time=None, coverage=None, compositions=[], curves=[], slowest={}
        )
        recording = msgspec.structs.replace(
            made.report.recordings[0], first_recv_time=None, last_recv_time=None, rows={}, rate=None, stages=[]
        )
        report = msgspec.structs.replace(made.report, recordings=[recording])
        write_page([msgspec.structs.replace(made, report=report, figures=[figures])], tmp_path / "page.html")
        page = Opened(browser, tmp_path / "page.html")
        texts = page.run("[...document.querySelectorAll('#events svg text')].map((each) => each.textContent)")
        assert "13:15" in texts
        assert not page.messages

    def test_frames_of_one_read_have_one_row_and_no_gap_is_said(self, browser, tmp_path):
        made = pictures()
        first, *others = (frames := made.figures[0].slowest)[key := next(iter(frames))]
        behind = [
            msgspec.structs.replace(first, seq=first.seq + each, frame_in_read=first.frame_in_read + each)
            for each in (1, 2)
        ]
        figures = msgspec.structs.replace(made.figures[0], slowest={**frames, key: [first, *behind, *others[:4]]})
        recording = msgspec.structs.replace(made.report.recordings[0], gaps=0, unchecked=[])
        recording.channels[:] = [
            msgspec.structs.replace(each, rule="next" if not at else "none")
            for at, each in enumerate(recording.channels)
        ]
        report = msgspec.structs.replace(made.report, recordings=[recording])
        write_page([msgspec.structs.replace(made, report=report, figures=[figures])], tmp_path / "page.html")
        page = Opened(browser, tmp_path / "page.html")
        assert page.run("document.querySelectorAll('#latency .frames tbody tr').length") == 5
        saved = page.saved("#latency .frames button")[1]
        assert [row["seq"] for row in csv.DictReader(io.StringIO(saved))][:3] == [
            str(each.seq) for each in (first, *behind)
        ]
        said = f"none in 1 of {len(recording.channels)} channels"
        assert said in page.page.inner_text(".facts")
        assert said in page.page.inner_text("#events .gaps")
        # ten facts, in rows that are full
        lefts = page.run("[...document.querySelectorAll('.facts > div')].map((each) => each.offsetLeft)")
        assert len(lefts) % len(set(lefts)) == 0

    def test_a_stamp_after_the_event(self, browser, tmp_path):
        """`NIC->EVENT` is negative where the segment arrived during the read: its bar lies left of zero."""
        made = pictures()
        shifted = [
            msgspec.structs.replace(
                each,
                shares=[
                    msgspec.structs.replace(each.shares[0], mean=-each.mean),
                    msgspec.structs.replace(each.shares[1], mean=each.mean * 2),
                ],
            )
            for each in made.figures[0].compositions
        ]
        figures = msgspec.structs.replace(made.figures[0], compositions=shifted)
        write_page([msgspec.structs.replace(made, figures=[figures])], tmp_path / "page.html")
        page = Opened(browser, tmp_path / "page.html")
        labels = page.run("[...document.querySelectorAll('#composition svg text')].map((each) => each.textContent)")
        assert "\u221226.0\u202fµs" in labels
        assert "52.0\u202fµs" in labels
        assert not page.messages


class TestFile:
    def test_a_page_is_small(self, report_file):
        assert report_file.stat().st_size < 2_000_000

    def test_many_recordings_fit(self):
        one = pictures()
        recordings = [msgspec.structs.replace(one.report.recordings[0], feed=f"feed{at}") for at in range(24)]
        many = msgspec.structs.replace(
            one, report=msgspec.structs.replace(one.report, recordings=recordings), figures=one.figures * 24
        )
        text = page([many])
        assert len(text.encode()) <= MOST_BYTES
        data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
        drawn = [each["drawn"] for each in data["captures"][0]["recordings"]]
        assert 1 < sum(drawn) < 24
        assert len(drawn) == 24

    def test_it_is_replaced_as_a_whole(self, tmp_path):
        path = tmp_path / "page.html"
        path.write_text("<!DOCTYPE html>old")
        write_page([pictures()], path)
        assert path.read_text().startswith("<!doctype html>")
        assert [each.name for each in tmp_path.iterdir()] == ["page.html"]

    def test_what_is_no_file_is_refused(self, tmp_path):
        folder = tmp_path / "page.html"
        folder.mkdir()
        with pytest.raises(OSError, match="not a regular file"):
            write_page([pictures()], folder)

    def test_what_is_no_page_is_kept(self, tmp_path):
        file = tmp_path / "messages.parquet"
        file.write_bytes(b"PAR1")
        with pytest.raises(OSError, match="no HTML page"):
            write_page([pictures()], file)
        assert file.read_bytes() == b"PAR1"

    def test_the_fields_of_a_frame_are_those_of_the_program(self):
        program = (ASSETS / "data.js").read_text()
        fields = re.search(r"const FIELDS = \[(.*?)\]", program, re.DOTALL)[1]
        assert re.findall(r'"(\w+)"', fields) == list(FRAME)

    def test_the_library_is_the_one_that_is_named(self):
        readme = (ASSETS / "echarts" / "README.md").read_text()
        digest = hashlib.sha256((ASSETS / "echarts" / "echarts.min.js").read_bytes()).hexdigest()
        assert f"SHA-256 of `echarts.min.js` | `{digest}`" in readme
