"""The node's page: in a real browser, over a real supervisord, and what no other site may do with it."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.unit.vkcri.kubelet.node import Node, running, waiting
from tests.unit.vkcri.kubelet.test_logs import record
from tests.waiting import until
from vkcri.kubelet import downloads
from vkcri.kubelet.downloads import Tickets, Wanted

SCREENSHOTS = os.environ.get("VKCRI_SCREENSHOTS")  # a folder that keeps what the browser showed


def fill(node: Node) -> Path:
    """Pods, their use, an event; the log of the pod `web`."""
    path = node.run_pod("web", b"".join(record(number, b"line %d of the log" % number) for number in range(30)))
    node.put_pod("worker", "main", "sidecar")
    broken = waiting("CrashLoopBackOff", "main", restartCount=7)
    node.put_status("worker", [broken, running("sidecar")], phase="Pending")
    now = time.time()
    history = [[now - 10 * at, 1e8 * (2 + at % 7), 5e7 + 1e6 * at] for at in range(40, 0, -1)]
    pods = {"uid-web": {"main": history}, "uid-worker": {"sidecar": history[::-1]}}
    node.answers["usage"] = {"node": history, "pods": pods}
    event = {
        "involvedObject": {"kind": "Pod", "name": "worker", "namespace": "default"},
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off restarting failed container main",
        "count": 12,
        "lastTimestamp": "2026-11-25T10:00:00Z",
    }
    node.publisher("provider").put("events", "one", json.dumps(event).encode())
    node.until_known("worker")
    return path


def test_page_shows_pods_follows_a_log_and_restarts_a_program(supervised: Node, tmp_path: Path) -> None:
    log = fill(supervised)
    shots = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
    base = f"http://127.0.0.1:{supervised.settings.log_api_port}/"
    with Browser(tmp_path) as browser:
        browser.look(1280, 800)
        browser.open(f"{base}#token={supervised.token}")
        browser.until(
            "document.querySelectorAll('.pod').length == 2 && document.querySelectorAll('#programs li').length == 3"
        )
        browser.until("document.querySelectorAll('.pod svg').length == 4")
        assert browser.evaluate("location.href") == base  # the token is not left in the address
        assert "CrashLoopBackOff · 7 restarts" in browser.evaluate("document.body.innerText")
        ages = "[...document.querySelectorAll('.pod .meta')].map(line => line.innerText.split(' · ')[1]).join()"
        browser.evaluate("(clock = Date.now, 0)")
        for now, age in (("23T10:01:59", "119s"), ("23T15:59:00", "5h"), ("26T09:59:00", "2d"), ("26T10:01:00", "3d")):
            browser.evaluate(f"(Date.now = () => Date.parse('2026-11-{now}Z'), 0)")
            browser.until(f"(refresh(), {ages} == '{age},{age}')")  # of pods that were created on the 23rd at 10
        browser.evaluate("(Date.now = clock, 0)")
        assert "Back-off restarting" in browser.evaluate("document.querySelector('#events').innerText")
        browser.screenshot(shots / "page-light.png")
        browser.look(1280, 800, dark=True)
        browser.screenshot(shots / "page-dark.png")
        browser.look(390, 844)
        assert browser.evaluate("document.documentElement.scrollWidth") == 390  # nothing is wider than a phone
        browser.screenshot(shots / "page-phone.png")
        browser.look(1280, 800)

        browser.evaluate("document.querySelector('[data-logs=\"/logs/default/web/main\"]').click()")
        browser.until("document.querySelectorAll('#lines div').length == 30")
        with log.open("ab") as file:
            file.write(record(31, b"a line that arrives"))
        browser.until("document.querySelector('#lines').innerText.includes('a line that arrives')")
        browser.screenshot(shots / "log.png")
        search = "const s = document.querySelector('#search'); s.value = '{}'; s.dispatchEvent(new Event('input'));"
        browser.evaluate(f"(() => {{ {search.format('ARRIVES')} }})()")
        assert browser.evaluate(
            "[...document.querySelectorAll('#lines div:not(.hidden)')].map(row => row.textContent)"
        ) == ["a line that arrives"]
        browser.evaluate(f"(() => {{ {search.format('')} }})()")
        browser.evaluate("document.querySelector('#pause').click()")
        with log.open("ab") as file:
            file.write(record(32, b"one that waits"))
        browser.until("document.querySelector('#logstate').innerText.includes('1 lines wait')")
        assert browser.evaluate("document.querySelectorAll('#lines div').length") == 31
        browser.evaluate("document.querySelector('#pause').click()")
        browser.until("document.querySelectorAll('#lines div').length == 32")
        browser.evaluate("document.querySelector('#close').click()")
        until(lambda: 'vkcri_log_followers{process="log-server"} 0' in supervised.get("/metrics")[1])

        row = "document.querySelector('[data-program=\"kube-proxy\"]')"
        pid = browser.evaluate(f"{row}.dataset.pid")
        browser.evaluate(f"{row}.querySelector('button').click()")
        browser.until(f"{row}.dataset.state == 'RUNNING' && {row}.dataset.pid != '{pid}'")
        assert browser.complaints == []


def test_page_changes_in_place_and_asks_once_at_a_time(node: Node, tmp_path: Path) -> None:
    """A card that is made anew loses the keyboard's focus, and a click whose button goes between press and release."""
    fill(node)
    with Browser(tmp_path) as browser:
        browser.open(f"http://127.0.0.1:{node.settings.log_api_port}/#token={node.token}")
        button = "document.querySelector('[data-logs=\"/logs/default/worker/main\"]')"
        browser.until(f"{button} && document.querySelectorAll('.pod svg').length == 4")
        browser.evaluate(f"({button}.mark = 'the same', {button}.focus())")
        node.put_pod("another")
        node.put_status("worker", [running("main", restartCount=8), running("sidecar")])
        browser.until(f"{button}.innerText.includes('8 restarts') && document.querySelectorAll('.pod').length == 3")
        assert browser.evaluate(f"{button}.mark == 'the same' && document.activeElement == {button}")
        browser.until("!refreshing")
        browser.evaluate("(asked = [], fetch = path => { asked.push(path); return new Promise(() => {}); }, 0)")
        browser.evaluate("(refresh(), refresh(), 0)")
        assert browser.evaluate("asked.filter(path => path == 'overview').length") == 1
        assert browser.complaints == []


def test_log_without_line_ends_is_cut_and_a_download_that_fails_says_so(node: Node, tmp_path: Path) -> None:
    log = fill(node)
    log.write_bytes(record(0, b"x" * 150_000, partial=True))
    with Browser(tmp_path) as browser:
        browser.open(f"http://127.0.0.1:{node.settings.log_api_port}/#token={node.token}")
        button = "document.querySelector('[data-logs=\"/logs/default/web/main\"]')"
        browser.until(f"{button} != null")
        browser.evaluate(f"{button}.click()")
        lengths = "[...document.querySelectorAll('#lines div')].map(row => row.textContent.length)"
        browser.until("document.querySelectorAll('#lines div').length == 2")
        assert browser.evaluate(lengths) == [65536, 65536]
        with log.open("ab") as file:
            file.write(record(1, b"y"))
        browser.until("document.querySelectorAll('#lines div').length == 3")
        assert browser.evaluate(lengths) == [65536, 65536, 150_001 - 2 * 65536]
        assert browser.evaluate("document.querySelector('#logstate').innerText") == "following"
        node.log_paths.clear()
        log.unlink()  # else its path is remembered
        browser.evaluate("document.querySelector('#download').click()")
        browser.until("document.querySelector('#logstate').innerText.startsWith('no download of default/web/main: ')")


def test_download_is_saved_by_the_browser_and_no_script_holds_it(node: Node, tmp_path: Path) -> None:
    log = fill(node)
    with log.open("ab") as file:
        file.write(b"".join(record(number, b"x" * 1000) for number in range(40, 20_040)))
    whole = b"".join(b"line %d of the log\n" % number for number in range(30)) + (b"x" * 1000 + b"\n") * 20_000
    with Browser(tmp_path) as browser:
        browser.save_into(tmp_path)
        browser.open(f"http://127.0.0.1:{node.settings.log_api_port}/#token={node.token}")
        button = "document.querySelector('[data-logs=\"/logs/default/web/main\"]')"
        browser.until(f"{button} != null")
        watch = "asked = [], real = fetch, fetch = (path, ...more) => (asked.push(path), real(path, ...more))"
        browser.evaluate(f"({watch}, 0)")
        browser.evaluate(f"{button}.click()")
        browser.click("#download")
        saved = tmp_path / "default_web_main.log"
        until(saved.exists)
        until(lambda: saved.stat().st_size == len(whole))
        assert saved.read_bytes() == whole
        assert browser.evaluate("asked.filter(path => path.includes('download'))") == ["downloads/default/web/main"]
        assert browser.complaints == []


def test_ticket_is_asked_for_as_an_action_and_good_for_one_download(node: Node) -> None:
    node.run_pod("web", record(0, b"hello"))
    path = "/downloads/default/web/main"
    for headers, status in (({}, 401), ({**node.bearer, "Origin": "http://evil.example"}, 403), (node.bearer, 200)):
        with node.people(path, headers, "POST") as answer:
            assert answer.status == status
            ticket = answer.read().decode()
    with node.people(f"/download?ticket={ticket}", {}) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="default_web_main.log"'
        assert (answer.status, answer.read()) == (200, b"hello\n")
    for used in (ticket, "", "guessed"):
        with node.people(f"/download?ticket={used}", {}) as answer:
            assert answer.status == 404
            assert b"hello" not in answer.read()
    with node.people("/downloads/default/web/absent", None, "POST") as answer:
        assert answer.status == 404


def test_ticket_ends_after_a_minute_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    wanted = Wanted("default", "web", "main", previous=True)
    assert wanted.file == "default_web_main.previous.log"
    late = tickets.give(wanted)
    now[0] = 61.0
    assert tickets.take(late) is None
    monkeypatch.setattr(downloads, "MOST", 2)
    first, second, third = (tickets.give(wanted) for _ in range(3))
    assert [tickets.take(item) for item in (first, second, third)] == [None, wanted, wanted]


def test_browser_without_the_token_is_asked_for_it(node: Node, tmp_path: Path) -> None:
    fill(node)
    with Browser(tmp_path) as browser:
        browser.open(f"http://127.0.0.1:{node.settings.log_api_port}/")
        browser.until("document.querySelector('#enter') && !document.querySelector('#enter').hidden")
        assert browser.evaluate("document.querySelectorAll('.pod').length") == 0
        browser.evaluate(
            f"(() => {{ document.querySelector('#token').value = '{node.token}'; "
            "document.querySelector('#enter').requestSubmit(); })()"
        )
        browser.until("document.querySelectorAll('.pod').length == 2")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_action_is_its_own_pages_alone(supervised: Node, headers: dict[str, str], status: int) -> None:
    port = supervised.settings.log_api_port
    own = {name: value.format(port=port) for name, value in headers.items()}
    with supervised.people("/programs/cri-bridge/restart", {**supervised.bearer, **own}, "POST", 60.0) as answer:
        assert answer.status == status


def test_action_wants_the_token_in_a_header(supervised: Node) -> None:
    path = "/programs/cri-bridge/restart"
    for where, headers in ((f"{path}?token={supervised.token}", {}), (path, {"Authorization": "Bearer x"}), (path, {})):
        with supervised.people(where, headers, "POST", 60.0) as answer:
            assert answer.status == 401
    with supervised.people("/programs/absent/restart", None, "POST") as answer:
        assert answer.status == 404
    with supervised.people("/overview", {}) as answer:
        assert answer.status == 401


def test_page_is_for_browsers_and_loads_nothing_from_elsewhere(calm_node: Node) -> None:
    with calm_node.people("/", {"Accept": "text/html,*/*"}) as answer:
        page = answer.read().decode()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    for path in ("/page.css", "/page.js"):
        with calm_node.people(path, {}) as answer:
            assert answer.status == 200
            page += answer.read().decode()
    assert [part for part in page.split('"') if part.startswith(("http:", "https:", "//"))] == [
        "http://www.w3.org/2000/svg"
    ]
    with calm_node.people("/", {}) as answer:
        assert answer.read().decode().startswith("vkcri: logs of this node")


def test_overview_lives_without_supervisord(calm_node: Node) -> None:
    with calm_node.people("/overview") as answer:
        found = json.load(answer)
    assert (found["node"], found["programs"]) == ("n1", None)
