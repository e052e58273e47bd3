"""Real nft and real packets: a node, two pods as endpoints, a client pod and a client from outside, each a network
namespace that the test made; kube-proxy as a process in the node's, the test as its api-watcher."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instances import own
from tests.unit.vkcri.proxy.objects import Object, endpoint, endpoint_slice, service
from tests.waiting import PATIENCE
from vkcri.lifecycle import Process
from vkcri.queue import Publisher, Subscription, request

INSTANCE = own("proxy")
ROOT = Path(__file__).parents[4]
PREFIX = f"vkq{INSTANCE.index}-"
POD_SUBNET = "10.244.24.0/24"
POD_SUBNET6 = "fd00:24::/64"
PODS = {"one": 11, "two": 12, "client": 13}
TOPICS = ["services", "endpointslices", "node"]
SERVER = """
import socket, socketserver, sys, threading
class Reply(socketserver.BaseRequestHandler):
    def handle(self):
        data = self.request.recv(1000) if isinstance(self.request, socket.socket) else None
        answer = f"{sys.argv[1]} {self.client_address[0]}".encode()
        if data is None:
            self.request[1].sendto(answer, self.client_address)
        else:
            self.request.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + answer)
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
class Datagrams(socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6
udp = Datagrams(("::", 8053), Reply)
threading.Thread(target=udp.serve_forever, daemon=True).start()
tcp = Server(("::", 8080), Reply)
print("ready", flush=True)
tcp.serve_forever()
"""
FETCH = """
import sys, urllib.request
url, count = sys.argv[1], int(sys.argv[2])
for _ in range(count):
    try:
        print(urllib.request.urlopen(url, timeout=50).read().decode())
    except OSError as error:
        print("error", getattr(error, "reason", error))
"""
pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's"),
    pytest.mark.xdist_group("kube-proxy"),
]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=PATIENCE)


def inside(namespace: str, *command: str, timeout: float = 2 * PATIENCE) -> str:
    argv = ["ip", "netns", "exec", PREFIX + namespace, *command]
    return subprocess.run(argv, check=True, timeout=timeout, capture_output=True, text=True).stdout


class Guest:
    """The namespaces, the servers, kube-proxy, and the topics that it reads."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[Any]] = []
        self.objects: dict[str, dict[str, Object]] = {"services": {}, "endpointslices": {}}
        self.ends: list[int] = []
        self.process = Process("watcher", INSTANCE, end=self.ends.append)
        self.watcher = self.own()
        self.proxy: subprocess.Popen[Any] | None = None

    def own(self) -> Publisher:
        owner = Publisher(INSTANCE.queue_socket("watcher"), TOPICS)
        owner.start(self.process)
        owner.replace("node", {"n1": json.dumps({"spec": {"podCIDRs": [POD_SUBNET, POD_SUBNET6]}}).encode()})
        return owner

    def build(self) -> None:
        for name in ("node", *PODS, "outside"):
            ip("netns", "add", PREFIX + name)
            inside(name, "ip", "link", "set", "lo", "up")
        node = ("-n", PREFIX + "node")
        ip(*node, "link", "add", "br0", "type", "bridge")
        ip(*node, "addr", "add", "10.244.24.1/24", "dev", "br0")
        ip(*node, "addr", "add", "fd00:24::1/64", "dev", "br0", "nodad")
        ip(*node, "link", "set", "br0", "up")
        for name, number in PODS.items():
            self.wire(name, "br0", f"10.244.24.{number}/24", f"fd00:24::{number}/64", "10.244.24.1", "fd00:24::1")
        self.wire("outside", "", "192.0.2.2/24", "2001:db8::2/64", "192.0.2.1", "2001:db8::1")
        ip(*node, "addr", "add", "192.0.2.1/24", "dev", "v-outside")
        ip(*node, "addr", "add", "2001:db8::1/64", "dev", "v-outside", "nodad")
        ip(*node, "route", "add", "default", "via", "192.0.2.2")
        for name in ("one", "two"):
            self.serve(name)

    def wire(self, name: str, bridge: str, four: str, six: str, gateway4: str, gateway6: str) -> None:
        ip("-n", PREFIX + "node", "link", "add", f"v-{name}", "type", "veth", "peer", "eth0", "netns", PREFIX + name)
        if bridge:
            ip("-n", PREFIX + "node", "link", "set", f"v-{name}", "master", bridge)
            # As the CNI plugin does with hairpinMode: a pod that reaches itself leaves by the port that it came from.
            ip("-n", PREFIX + "node", "link", "set", f"v-{name}", "type", "bridge_slave", "hairpin", "on")
        ip("-n", PREFIX + "node", "link", "set", f"v-{name}", "up")
        pod = ("-n", PREFIX + name)
        ip(*pod, "link", "set", "eth0", "up")
        ip(*pod, "addr", "add", four, "dev", "eth0")
        ip(*pod, "addr", "add", six, "dev", "eth0", "nodad")
        ip(*pod, "route", "add", "default", "via", gateway4)
        ip(*pod, "-6", "route", "add", "default", "via", gateway6)

    def serve(self, name: str) -> None:
        argv = ["ip", "netns", "exec", PREFIX + name, sys.executable, "-c", SERVER, name]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self.running.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"

    def start(self) -> None:
        environ = {"PATH": os.environ["PATH"], "VKCRI_INSTANCE": INSTANCE.name, "VKUBELET_NODE_NAME": "n1"}
        script = "from vkcri.proxy.main import main; main()"
        argv = ["ip", "netns", "exec", PREFIX + "node", sys.executable, "-c", script]
        self.proxy = subprocess.Popen(argv, env={**environ, "PYTHONPATH": str(ROOT)})
        self.running.append(self.proxy)

    def put(self, *objects: Object) -> None:
        for item in objects:
            topic = "services" if item["kind"] == "Service" else "endpointslices"
            key = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            self.objects[topic][key] = item
        for topic, held in self.objects.items():
            self.watcher.replace(topic, {key: json.dumps(item).encode() for key, item in held.items()})

    def fetch(self, client: str, url: str, count: int = 1) -> list[str]:
        return inside(client, sys.executable, "-c", FETCH, url, str(count)).splitlines()

    def rules(self, family: str = "ip") -> str:
        argv = ["ip", "netns", "exec", PREFIX + "node", "nft", "list", "table", family, INSTANCE.nft_table]
        return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout

    def until_loaded(self, *words: str, family: str = "ip") -> None:
        """Until the kernel has these and the node's range: another range makes the whole table anew, a moment later."""
        words = (*words, POD_SUBNET if family == "ip" else POD_SUBNET6)
        self.until(lambda: set(words) <= set(re.findall(r"[\w.:/-]+", self.rules(family))))

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.rules()
            assert self.proxy is None or self.proxy.poll() is None
            time.sleep(0.05)

    def close(self) -> None:
        self.process.drain()
        for process in self.running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for name in ("node", *PODS, "outside"):
            subprocess.run(["ip", "netns", "del", PREFIX + name], check=False, capture_output=True, timeout=PATIENCE)
        for folder in (INSTANCE.run_dir, INSTANCE.state_dir, INSTANCE.log_dir):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest()
    try:
        made.build()
        made.start()
        yield made
        assert made.ends == []
    finally:
        made.close()


def pod(name: str) -> Object:
    return endpoint(f"10.244.24.{PODS[name]}")


def senders(answers: list[str]) -> set[str]:
    return {answer.split()[0] for answer in answers}


def test_pods_reach_each_other_by_cluster_ip_and_a_deleted_endpoint_gets_no_further_connection(guest: Guest) -> None:
    guest.put(service(ip="10.124.0.5"), endpoint_slice(pod("one"), pod("two")))
    guest.until_loaded("10.124.0.5", "10.244.24.11", "10.244.24.12")
    answers = guest.fetch("client", "http://10.124.0.5/", 30)
    assert set(answers) == {"one ::ffff:10.244.24.13", "two ::ffff:10.244.24.13"}  # and see the client's own address
    assert senders(guest.fetch("node", "http://10.124.0.5/", 20)) == {"one", "two"}

    guest.put(endpoint_slice(pod("two")))
    guest.until(lambda: "10.244.24.11" not in guest.rules())
    assert senders(guest.fetch("client", "http://10.124.0.5/", 20)) == {"two"}
    assert senders(guest.fetch("two", "http://10.124.0.5/", 3)) == {"two"}  # a pod reaches itself

    guest.put(endpoint_slice())
    guest.until(lambda: "numgen" not in guest.rules() and "dnat to" not in guest.rules())
    for client in ("client", "node"):
        assert guest.fetch(client, "http://10.124.0.5/") == ["error [Errno 111] Connection refused"]
        assert guest.fetch(client, "http://10.124.0.5:81/") == ["error [Errno 111] Connection refused"]


def test_rules_wait_for_both_topics_outlive_the_program_and_go_at_cleanup(guest: Guest) -> None:
    assert guest.proxy is not None
    proxy_socket = INSTANCE.queue_socket("proxy")
    guest.watcher.put("services", "ns/web", json.dumps(service(ip="10.124.0.5")).encode())
    guest.watcher.mark_synced("services")
    guest.until(lambda: proxy_socket.exists())
    guest.until(
        lambda: (
            'vkcri_proxy_synced{topic="services"} 1' in request(proxy_socket, "metrics", {}, timeout=PATIENCE)["text"]
        )
    )
    assert guest.rules() == ""
    guest.put(service(ip="10.124.0.5"), endpoint_slice(pod("one")))
    guest.until_loaded("10.124.0.5", "10.244.24.11")
    metrics = request(proxy_socket, "metrics", {}, timeout=PATIENCE)["text"]
    assert re.search(r'applied_total{kind="whole"} [12]', metrics), metrics  # the node's range may come after the first
    assert "vkcri_proxy_error 0" in metrics

    before = guest.rules()
    guest.watcher.close()
    guest.watcher = guest.own()  # a new watcher that knows nothing yet
    guest.watcher.put("services", "ns/other", json.dumps(service("other", "10.124.0.6")).encode())
    guest.until(lambda: "10.124.0.6" in guest.rules())
    assert "10.124.0.5" in guest.rules()
    guest.watcher.delete("services", "ns/other")
    guest.until(lambda: guest.rules() == before)

    guest.proxy.send_signal(signal.SIGTERM)
    assert guest.proxy.wait(PATIENCE) == 0
    guest.proxy = None
    assert guest.rules() == before
    assert guest.fetch("client", "http://10.124.0.5/") == ["one ::ffff:10.244.24.13"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VKCRI_INSTANCE": INSTANCE.name}
    script = "import sys; sys.argv.append('--cleanup'); from vkcri.proxy.main import main; main()"
    for _ in range(2):
        argv = ["ip", "netns", "exec", PREFIX + "node", sys.executable, "-c", script]
        subprocess.run(argv, env=environ, check=True, timeout=PATIENCE)
        assert guest.rules() == guest.rules("ip6") == ""


def test_from_outside_by_node_port_and_a_local_policy_shows_the_clients_address(guest: Guest) -> None:
    subject = service(ip="10.124.0.5", type="NodePort", externalIPs=["198.51.100.7"])
    subject["spec"]["ports"][0]["nodePort"] = 30080
    guest.put(subject, endpoint_slice(pod("one")))
    guest.until_loaded("30080", "10.244.24.11")
    inside("outside", "ip", "route", "add", "198.51.100.7", "via", "192.0.2.1")
    assert guest.fetch("outside", "http://192.0.2.1:30080/") == ["one ::ffff:10.244.24.1"]
    assert guest.fetch("outside", "http://198.51.100.7/") == ["one ::ffff:10.244.24.1"]
    assert senders(guest.fetch("node", "http://192.0.2.1:30080/")) == {"one"}
    assert senders(guest.fetch("one", "http://192.0.2.1:30080/")) == {"one"}

    subject["spec"]["externalTrafficPolicy"] = "Local"
    guest.put(subject)
    guest.until(lambda: "all-ext" in guest.rules())
    assert guest.fetch("outside", "http://192.0.2.1:30080/") == ["one ::ffff:192.0.2.2"]
    assert senders(guest.fetch("client", "http://192.0.2.1:30080/")) == {"one"}
    guest.put(endpoint_slice())
    guest.until(lambda: "all-ext" not in guest.rules())
    assert guest.fetch("outside", "http://192.0.2.1:30080/") == ["error [Errno 111] Connection refused"]


def test_a_client_keeps_its_endpoint_under_session_affinity(guest: Guest) -> None:
    guest.put(service(ip="10.124.0.5", sessionAffinity="ClientIP"), endpoint_slice(pod("one"), pod("two")))
    guest.until(lambda: "clients-" in guest.rules() and POD_SUBNET in guest.rules())
    (chosen,) = senders(guest.fetch("client", "http://10.124.0.5/", 20))
    other = {"one": "two", "two": "one"}[chosen]
    guest.put(service("second", "10.124.0.6"))  # a change elsewhere does not forget it
    guest.until(lambda: "10.124.0.6" in guest.rules())
    assert senders(guest.fetch("client", "http://10.124.0.5/", 10)) == {chosen}
    guest.put(endpoint_slice(pod(other)))
    guest.until(lambda: f"10.244.24.{PODS[chosen]}" not in guest.rules())
    assert senders(guest.fetch("client", "http://10.124.0.5/", 5)) == {other}


UDP = """
import socket, sys, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.5)
client.connect((sys.argv[1], 53))
for line in sys.stdin:
    for _ in range(20):
        try:
            client.send(b"x")
            print(client.recv(100).decode().split()[0], flush=True)
            break
        except OSError:
            time.sleep(0.1)
    else:
        print("nothing", flush=True)
"""


def test_a_udp_client_that_keeps_its_port_leaves_an_endpoint_that_is_gone(guest: Guest) -> None:
    dns = [{"name": "dns", "protocol": "UDP", "port": 53}]
    slice_ports = [{"name": "dns", "protocol": "UDP", "port": 8053}]
    guest.put(service(ip="10.124.0.5", ports=dns), endpoint_slice(pod("one"), ports=slice_ports))
    guest.until_loaded("10.124.0.5", "10.244.24.11")
    argv = ["ip", "netns", "exec", PREFIX + "client", sys.executable, "-c", UDP, "10.124.0.5"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None

        def ask() -> str:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write("\n")
            client.stdin.flush()
            return client.stdout.readline().strip()

        try:
            assert ask() == "one"
            guest.put(endpoint_slice(pod("two"), ports=slice_ports))
            guest.until(lambda: "10.244.24.11" not in guest.rules())
            guest.until(lambda: ask() == "two")
        finally:
            client.kill()


def test_ipv6(guest: Guest) -> None:
    part = endpoint_slice(endpoint("fd00:24::11"), endpoint("fd00:24::12"), family="IPv6")
    guest.put(service(ip="fd00:124::5"), part)
    guest.until_loaded("fd00:124::5", "fd00:24::11", "fd00:24::12", family="ip6")
    assert set(guest.fetch("client", "http://[fd00:124::5]/", 20)) == {"one fd00:24::13", "two fd00:24::13"}
    guest.put(endpoint_slice(family="IPv6"))
    guest.until(lambda: "numgen" not in guest.rules("ip6"))
    assert guest.fetch("client", "http://[fd00:124::5]/") == ["error [Errno 111] Connection refused"]


def test_what_is_not_served_and_what_is_broken_is_an_event_and_costs_nobody_else(guest: Guest) -> None:
    events = Subscription(INSTANCE.queue_socket("proxy"), "events", lambda _: None)
    events.start(guest.process)
    broken = service("broken", "10.124.0.9")
    broken["spec"]["ports"] = [{"port": "80; flush ruleset"}]
    guest.put(service(ip="10.124.0.5", trafficDistribution="PreferSameNode"), broken, endpoint_slice(pod("one")))
    guest.until(lambda: len(events.items()) == 2)
    found = {event["reason"]: event for event in map(json.loads, events.items().values())}
    assert found["UnsupportedField"]["type"] == "Warning"
    assert "trafficDistribution=PreferSameNode" in found["UnsupportedField"]["message"]
    assert found["UnsupportedField"]["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "ns",
        "name": "web",
        "uid": "uid-web",
    }
    assert found["InvalidObject"]["involvedObject"]["name"] == "broken"
    guest.until_loaded("10.124.0.5", "10.244.24.11")  # an event is there before the rules are
    assert guest.fetch("client", "http://10.124.0.5/") == ["one ::ffff:10.244.24.13"]


def test_a_table_that_somebody_deleted_is_built_again_at_the_next_change(guest: Guest) -> None:
    # an address of its own: the table of the test before may still be there, and is not the one to delete
    guest.put(service(ip="10.124.0.55"), endpoint_slice(pod("one")))
    # the node's range as well: another one makes the table anew, and that needs no table
    guest.until_loaded("10.124.0.55", "10.244.24.11")
    inside("node", "nft", "delete", "table", "ip", INSTANCE.nft_table)
    guest.put(endpoint_slice(pod("two")))
    guest.until(lambda: "10.244.24.12" in guest.rules())
    assert senders(guest.fetch("client", "http://10.124.0.55/", 3)) == {"two"}
    text = request(INSTANCE.queue_socket("proxy"), "metrics", {}, timeout=PATIENCE)["text"]
    assert re.search(r'kind="error"} [1-9]', text), text
