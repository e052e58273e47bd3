"""What scrapers cost the node: CPU of log-server and cri-bridge on a whole node with 60 pods, with none, one and ten.

A scraper asks for all the pages that Prometheus and metrics-server read, each every ten seconds, on a connection that
it keeps. Ten have their phases spread over those seconds, as ten have that know nothing of each other. The pods sleep.
"""

import http.client
import ssl
import tempfile
import threading
import time
from pathlib import Path

from benchmarks._processes import cpu_seconds
from tests.cluster.answers import certificate_file
from tests.flow.live import LiveNode, is_ready, live_node, shell_pod
from tests.flow.planes import EmbeddedPlane
from tests.waiting import wait_for

PODS = 60
PAGES = ("/metrics", "/metrics/resource", "/metrics/cadvisor", "/metrics/probes", "/stats/summary")
EVERY_SECONDS = 10.0
MEASURED_SECONDS = 30.0
PROGRAMS = ("log-server", "cri-bridge")


def main() -> None:
    """Print a line a number of scrapers. Removes the instance at the end."""
    with live_node(EmbeddedPlane(), "bench") as node:
        node.up()
        node.apply(*(shell_pod(f"load-{number}", "exec sleep 3600") for number in range(PODS)))
        wait_for("all pods are Ready", lambda: sum(map(is_ready, node.get("pods")["items"])) == PODS, 300)
        time.sleep(15)  # at rest, no longer starting pods
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = Path(folder) / "admin.conf"
            kubeconfig.write_bytes(node.place.kubeconfig.read_bytes())
            certificate = certificate_file(kubeconfig)
            for count in (0, 1, 10):
                print(line(node, certificate, count), flush=True)


def line(node: LiveNode, certificate: Path, count: int) -> str:
    """The measurement with that many scrapers."""
    stop = threading.Event()
    scrapers = [Scraper(node, certificate, EVERY_SECONDS * number / max(count, 1), stop) for number in range(count)]
    for scraper in scrapers:
        scraper.start()
    time.sleep(EVERY_SECONDS)
    pids = {program: node.pid(program) for program in PROGRAMS}
    before = {program: cpu_seconds([pid]) for program, pid in pids.items()}
    time.sleep(MEASURED_SECONDS)
    used = {program: (cpu_seconds([pid]) - before[program]) / MEASURED_SECONDS for program, pid in pids.items()}
    stop.set()
    for scraper in scrapers:
        scraper.join()
    asked = sum(scraper.answers for scraper in scrapers)
    shares = ", ".join(f"{program} {100 * share:.1f} %" for program, share in used.items())
    return f"scrapers: {count} of {PODS} pods every {EVERY_SECONDS:.0f} s: {shares} of a core ({asked} answers)"


class Scraper(threading.Thread):
    """Asks for every page each EVERY_SECONDS, first after `phase` seconds, until told to stop."""

    def __init__(self, node: LiveNode, certificate: Path, phase: float, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # an embedded node's is self-signed
        context.load_cert_chain(certificate)
        self._connection = http.client.HTTPSConnection("127.0.0.1", node.instance.kubelet_port, context=context)
        self._due = time.monotonic() + phase
        self._stop_asking = stop
        self.answers = 0

    def run(self) -> None:
        while not self._stop_asking.wait(max(0.0, self._due - time.monotonic())):
            self._due += EVERY_SECONDS
            for page in PAGES:
                self._connection.request("GET", page)
                response = self._connection.getresponse()
                response.read()
                assert response.status == 200, (page, response.status)
                self.answers += 1
        self._connection.close()
