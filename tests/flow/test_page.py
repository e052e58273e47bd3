"""The node's page on a whole live node, in headless chromium, as a person uses it: pods, a log that is followed,
paused, searched and saved, the log of the life before, events, and a program that is restarted and comes back.
"""

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.flow.live import LiveNode, shell_pod
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(240), pytest.mark.xdist_group("page")]

SCREENSHOTS = os.environ.get("VKCRI_SCREENSHOTS")  # a folder that keeps what the browser showed
SCRIPT = """
if [ ! -e /life/first ]; then touch /life/first; echo the first life; exit 3; fi
number=0
while :; do number=$((number + 1)); echo line $number; sleep 0.2; done
"""
LINES = "document.querySelectorAll('#lines div').length"
TEXT = "document.querySelector('#lines').textContent"  # hidden lines, too
STATE = "document.querySelector('#logstate').innerText"


@pytest.fixture(scope="module")
def talker(node: LiveNode) -> Iterator[str]:
    """A pod whose container has ended once and talks since; its log's path on the page."""
    life = {"volumes": [{"name": "life", "emptyDir": {}}]}
    mounts = {"volumeMounts": [{"name": "life", "mountPath": "/life"}]}
    node.apply(shell_pod("talker", SCRIPT, container=mounts, **life), shell_pod("quiet", "exec sleep 3600"))
    node.wait_ready("talker")
    node.wait_ready("quiet")
    yield f"/logs/{node.namespace}/talker/main"
    node.kubectl("delete", "pod", "talker", "quiet", "--grace-period=0", "--force")


@pytest.fixture
def browser(node: LiveNode, talker: str, tmp_path: Path) -> Iterator[Browser]:
    """On the page, by the link that make run prints, with both pods shown and measured."""
    del talker
    token = node.instance.log_api_token_file.read_text().strip()
    with Browser(tmp_path) as made:
        made.look(1280, 800)
        made.save_into(tmp_path)
        made.open(f"http://127.0.0.1:{node.instance.log_api_port}/#token={token}")
        made.until("document.querySelectorAll('.pod').length >= 2", 60)
        made.until("document.querySelectorAll('.pod svg').length >= 4", 60)
        yield made


def shot(browser: Browser, name: str) -> None:
    if SCREENSHOTS:
        browser.screenshot(Path(SCREENSHOTS) / f"live-{name}.png")


def test_page_shows_the_node_as_it_is(browser: Browser, node: LiveNode) -> None:
    text = browser.evaluate("document.body.innerText")
    assert node.name in text
    assert "talker" in text
    assert "1 restart" in text
    card = "[...document.querySelectorAll('.pod')].find(pod => pod.innerText.includes('talker'))"
    assert re.fullmatch(r"Running · \d+[smhd] · [\d.]+", browser.evaluate(f"{card}.querySelector('.meta').innerText"))
    programs = browser.evaluate("[...document.querySelectorAll('[data-program]')].map(row => row.dataset.program)")
    assert sorted(programs) == sorted(node.instance.programs)
    browser.until("document.querySelector('#events').innerText.includes('Started')")
    for name, size, dark in (("light", (1280, 800), False), ("dark", (1280, 800), True), ("phone", (390, 844), True)):
        browser.look(*size, dark=dark)
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
        shot(browser, name)
    assert browser.complaints == []


def test_a_log_is_followed_paused_searched_and_saved(browser: Browser, talker: str, tmp_path: Path) -> None:
    browser.click(f"[data-logs={json.dumps(talker)}]")
    browser.until(f"{LINES} > 3 && {STATE} == 'following'")
    seen = browser.evaluate(LINES)
    browser.until(f"{LINES} > {seen}")
    shot(browser, "log")

    browser.click("#pause")
    held = browser.evaluate(LINES)
    browser.until(f"{STATE}.includes('wait')")
    assert browser.evaluate(LINES) == held
    browser.click("#pause")
    browser.until(f"{LINES} > {held}")

    browser.click("#search")
    browser.type("LINE 2")
    shown = "[...document.querySelectorAll('#lines div:not(.hidden)')].map(row => row.textContent)"
    assert set(browser.evaluate(f"{shown}.map(line => line.slice(0, 6))")) == {"line 2"}
    assert re.fullmatch(
        "[1-9][0-9]* of [1-9][0-9]* lines", browser.evaluate("document.querySelector('#found').innerText")
    )
    shot(browser, "search")

    browser.click("#download")
    saved = tmp_path / f"{talker.removeprefix('/logs/').replace('/', '_')}.log"
    wait_for("the log is saved", lambda: saved.exists() and saved.stat().st_size, 30)
    assert saved.read_text().startswith("line 1\nline 2\nline 3\n")

    browser.click("#previous")
    browser.until(f"{TEXT}.includes('the first life')")
    browser.until(f"{STATE} == 'the log has ended'")
    browser.look(390, 844, dark=True)
    shot(browser, "log-phone")
    browser.look(1280, 800)
    browser.click("#close")
    assert not browser.evaluate("document.querySelector('#log').open")
    assert browser.complaints == []


def pressed(browser: Browser, node: LiveNode, program: str, old: int) -> bool:
    """Whether that process has ended. Its button is pressed until then: one that a refresh of the page moves away
    between aim and press is missed. (While the page waits for a restart, the button does nothing.)"""
    if node.pid(program) != old:
        return True
    browser.click(f"[data-program={json.dumps(program)}] button")
    return False


def test_a_program_is_restarted_and_comes_back(browser: Browser, node: LiveNode) -> None:
    """cri-bridge, too: the page says what it knows meanwhile, and the pods go on."""
    before = node.containers("talker")
    for program in ("kube-proxy", "cri-bridge"):
        row = f"[data-program={json.dumps(program)}]"
        old = node.pid(program)
        browser.until(f"document.querySelector('{row}').dataset.pid == '{old}'")
        wait_for(f"{program} is restarted", partial(pressed, browser, node, program, old))
        new = f"document.querySelector('{row}').dataset"
        browser.until(f"{new}.state == 'RUNNING' && {new}.pid != '{old}' && {new}.pid != '0'")
        assert node.wait_running(program, but=old)
    assert node.containers("talker") == before
    browser.until("document.querySelectorAll('.pod .dot.good').length >= 2", 60)
