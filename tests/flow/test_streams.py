"""exec, attach, cp and port-forward as kubectl does them, old and new, and WebSockets as a browser does: real
containerd, and a real API server with --cluster=real.

One pod serves them all: it echoes on port 7000, and on port 7001 says the hash of the 32 MiB that it got.
"""

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.flow import kubectls
from tests.flow.channels import CLOSES, ERROR, STDERR, STDIN, STDOUT, Channels
from tests.flow.kubectls import Kubectl
from tests.flow.live import BIN, LiveNode, container, phase, shell_pod
from tests.flow.reading import AGAIN, answered, exactly, lines
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(300)]

POD = "streams"
SIZE = 32 * 1024 * 1024
HASHES = f"nc -ll -p 7001 -e sh -c 'head -c {SIZE} | sha256sum'"
SERVES = f"nc -ll -p 7000 -e cat & {HASHES} & echo begin; exec sleep 36000"
SECONDS = 60.0
TRANSFER_SECONDS = 240.0


@pytest.fixture(scope="module")
def pod(node: LiveNode) -> Iterator[LiveNode]:
    """The node, with the pod that serves these tests."""
    node.apply(shell_pod(POD, SERVES))
    node.wait_ready(POD)
    wait_for("its log", lambda: node.kubectl("logs", POD) == "begin\n")
    yield node
    node.kubectl("delete", "pod", POD, "--wait=true")


@pytest.fixture(params=kubectls.AGES)
def kubectl(request: pytest.FixtureRequest, pod: LiveNode) -> Kubectl:
    """Each kubectl."""
    return Kubectl(kubectls.aged(request.param, request.config.getoption("kubernetes")), pod)


@pytest.fixture
def plain(pod: LiveNode) -> Kubectl:
    """The guest's own kubectl, for what does not depend on its age."""
    return Kubectl(kubectls.installed(), pod)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_thirty_two_mebibytes_go_through_exec_and_back_unchanged(kubectl: Kubectl) -> None:
    data = os.urandom(SIZE)
    done = kubectl.run("exec", "-i", POD, "--", "cat", data=data)
    assert (done.returncode, digest(done.stdout), done.stderr) == (0, digest(data), b"")


def test_the_end_of_stdin_arrives_and_output_goes_on_behind_it(kubectl: Kubectl) -> None:
    """Nothing is printed before standard input has ended; both streams then have bytes of their own."""
    data = os.urandom(SIZE // 4)
    script = "cat >/tmp/got; cat /tmp/got; sha256sum </tmp/got >&2; rm /tmp/got"
    done = kubectl.run("exec", "-i", POD, "--", "sh", "-c", script, data=data)
    assert (done.returncode, digest(done.stdout)) == (0, digest(data))
    assert done.stderr.decode().split()[0] == digest(data)


def test_the_exit_code_is_the_commands(kubectl: Kubectl) -> None:
    for script, code in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)):
        done = kubectl.run("exec", POD, "--", "sh", "-c", f"echo out; echo err >&2; {script}")
        assert (done.returncode, done.stdout) == (code, b"out\n")
        assert done.stderr.startswith(b"err\n")
    absent = kubectl.run("exec", POD, "--", "/does/not/exist")
    assert absent.returncode not in (0, 7)
    assert b"no such file or directory" in absent.stderr


def test_a_folder_is_copied_there_and_back(kubectl: Kubectl, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "large").write_bytes(data)
    (tmp_path / "there" / "small one").write_bytes(b"\0\r\n\xff")
    there = kubectl.run("cp", str(tmp_path / "there"), f"{POD}:/tmp/copied")
    assert there.returncode == 0, there.stderr
    back = kubectl.run("cp", f"{POD}:/tmp/copied", str(tmp_path / "back"))
    assert back.returncode == 0, back.stderr
    kubectl.run("exec", POD, "--", "rm", "-r", "/tmp/copied")
    assert digest((tmp_path / "back" / "large").read_bytes()) == digest(data)
    assert (tmp_path / "back" / "small one").read_bytes() == b"\0\r\n\xff"


@contextmanager
def forwarded(kubectl: Kubectl, *ports: int) -> Iterator[list[int]]:
    """The ports of this guest at which a pod's are reached, while kubectl forwards them."""
    wanted = [f":{port}" for port in ports]
    with kubectl.session("port-forward", POD, "--address=127.0.0.1", *wanted) as forward:
        printed = [line.decode() for line in lines(forward, len(ports))]
        found = [re.search(r"127\.0\.0\.1:(\d+) -> (\d+)", line) for line in printed]
        assert all(found), printed
        by_port = {int(item[2]): int(item[1]) for item in found if item}
        yield [by_port[port] for port in ports]


def exchange(port: int, data: bytes, wanted: int) -> bytes:
    """Send it while so many bytes are read back; then say that no more will come (half a close), and read to the end.

    containerd passes no half close on: it ends both directions within a second, answered or not."""
    with socket.create_connection(("127.0.0.1", port), TRANSFER_SECONDS) as connection:  # sendall's, for all of it
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        received = bytearray()
        while len(received) < wanted and (part := connection.recv(1 << 20)):
            received += part
        sender.join(TRANSFER_SECONDS)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 20):
            received += part
        return bytes(received)


def test_thirty_two_mebibytes_go_through_a_forwarded_port_and_others_beside_them(kubectl: Kubectl) -> None:
    data = os.urandom(SIZE)
    with forwarded(kubectl, 7000, 7001) as (echo, hashing), ThreadPoolExecutor(3) as pool:
        hashed = pool.submit(exchange, hashing, data, 64)
        short = pool.submit(exchange, echo, b"beside the others", 17)
        assert digest(exchange(echo, data, SIZE)) == digest(data)
        assert hashed.result().decode().split()[0] == digest(data)
        assert short.result() == b"beside the others"


def test_a_port_where_nobody_listens_ends_that_connection(kubectl: Kubectl) -> None:
    with forwarded(kubectl, 7999) as (nobody,):
        assert exchange(nobody, b"", 0) == b""


def read_terminal(leader: int, wanted: bytes, typed: bytes = b"") -> bytes:
    """What a terminal shows, up to the wanted text. `typed` is typed first, and again whenever it was quiet since: see
    reading.answered."""
    shown, end = b"", time.monotonic() + SECONDS
    os.write(leader, typed)
    while wanted not in shown:
        assert time.monotonic() < end, shown
        if select.select([leader], [], [], AGAIN)[0]:
            shown += os.read(leader, 65536)
        else:
            os.write(leader, typed)
    return shown


def test_a_terminal_has_the_clients_size_and_follows_it(kubectl: Kubectl) -> None:
    leader, follower = pty.openpty()
    try:
        resize(follower, 33, 101)
        with kubectl.session("exec", "-it", POD, "--", "sh", terminal=follower) as shell:
            os.write(leader, b"while [ \"$(stty size)\" != '33 101' ]; do sleep 0.1; done; tty; echo ready''-one\n")
            assert b"/dev/pts/" in read_terminal(leader, b"ready-one")
            resize(follower, 44, 102)
            shell.send_signal(signal.SIGWINCH)  # which a terminal sends to what controls it
            os.write(leader, b"while [ \"$(stty size)\" != '44 102' ]; do sleep 0.1; done; echo ready''-two\n")
            read_terminal(leader, b"ready-two")
            os.write(leader, b"exit 5\n")
            assert shell.wait(SECONDS) == 5
    finally:
        os.close(leader)
        os.close(follower)


def resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_many_sessions_at_once_do_not_mix(plain: Kubectl) -> None:
    def session(number: int) -> bool:
        data = os.urandom(1 << 20)
        script = f"cat; exit {number}"
        done = plain.run("exec", "-i", POD, "--", "sh", "-c", script, data=data)
        return (done.returncode, digest(done.stdout)) == (number, digest(data))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(session, range(1, 13)))


def test_stdin_once_ends_with_its_first_client_and_attach_shows_what_is_printed(plain: Kubectl) -> None:
    node, name = plain.node, f"once-{os.urandom(3).hex()}"
    keeps = {"stdin": True, "command": ["sh", "-c", "while read line; do echo got $line; done; echo ended"]}
    once = shell_pod(name, "", restartPolicy="Never", container={**keeps, "stdinOnce": True})
    once["spec"]["containers"].append({**once["spec"]["containers"][0], "name": "always", "stdinOnce": False})
    node.apply(once)
    node.wait_ready(name)
    for number in (1, 2):
        with plain.session("attach", "-i", name, "-c", "always") as session:
            answered(session, b"line %d\n" % number, b"got line %d\n" % number, between=(b"got line 1\n",))
    with plain.session("attach", "-i", name, "-c", "main") as session:
        count = answered(session, b"the only line\n", b"got the only line\n")
        rest = session.communicate(timeout=SECONDS)[0]
    assert rest == b"got the only line\n" * (rest.count(b"\n") - 1) + b"ended\n"
    pod = node.wait_pod(name, lambda it: "terminated" in container(it, "main").get("state", {}))
    assert "running" in container(pod, "always")["state"]
    logged = "got the only line\n" * count + "ended\n"
    wait_for("its log", lambda: node.kubectl("logs", name, "-c", "main") == logged)
    node.kubectl("delete", "pod", name, "--wait=true")


def test_kubectl_run_with_a_terminal_is_a_shell_that_ends_with_its_code(kubectl: Kubectl) -> None:
    node, name = kubectl.node, f"run-{os.urandom(3).hex()}"
    leader, follower = pty.openpty()
    try:
        arguments = ["run", name, "-it", "--quiet", *_run_from(node), "--", "sh"]
        with kubectl.session(*arguments, terminal=follower) as shell:
            # The terminal's echo of it is not what is waited for.
            assert b"/dev/pts/" in read_terminal(leader, b"ready-one", b"tty; echo ready''-one\n")
            os.write(leader, b"exit 5\n")
            assert shell.wait(SECONDS) == 5
    finally:
        os.close(leader)
        os.close(follower)
    assert phase(node.wait_pod(name, lambda it: phase(it) == "Failed")) == "Failed"
    node.kubectl("delete", "pod", name, "--wait=true")


def test_kubectl_run_with_a_pipe_attaches_and_ends_with_the_command(plain: Kubectl) -> None:
    name = f"run-{os.urandom(3).hex()}"
    arguments = ["run", name, "-i", "--quiet", *_run_from(plain.node), "--", "sh", "-c", "cat; exit 0"]
    with plain.session(*arguments) as session:
        answered(session, b"hello\n", b"hello\n")
        session.communicate(timeout=SECONDS)
        assert session.returncode == 0
    assert phase(plain.node.wait_pod(name, lambda it: phase(it) == "Succeeded")) == "Succeeded"
    plain.node.kubectl("delete", "pod", name, "--wait=true")


def _run_from(node: LiveNode) -> list[str]:
    """What `kubectl run` is told of a pod that runs once from the image at hand."""
    image = node.pod(POD)["spec"]["containers"][0]["image"]
    return ["--restart=Never", f"--image={image}", "--image-pull-policy=IfNotPresent"]


def exec_channels(node: LiveNode, protocol: str, *command: str, **streams: str) -> Channels:
    query = [("command", word) for word in command] + list(streams.items())
    return Channels(node, f"/api/v1/namespaces/{node.namespace}/pods/{POD}/exec", query, protocol)


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"])
def test_a_websocket_by_get_carries_all_channels(pod: LiveNode, protocol: str) -> None:
    script = "head -c 12; echo err >&2; exit 3"
    with exec_channels(pod, protocol, "sh", "-c", script, stdin="1", stdout="1", stderr="1") as client:
        assert client.protocol == protocol, client.head
        client.send(STDIN, b"\0\xff bytes\r\n!!")
        client.send(STDIN, b"?")
        got: dict[int, bytes] = {}
        while (found := client.receive()) is not None:
            got[found[0]] = got.get(found[0], b"") + found[1]
            if found[0] == ERROR:
                break
    assert (got[STDOUT], got[STDERR]) == (b"\0\xff bytes\r\n!!?"[:12], b"err\n")
    if protocol.startswith("v"):
        status = json.loads(got[ERROR])
        assert (status["reason"], status["details"]["causes"][0]["message"]) == ("NonZeroExitCode", "3")
    else:
        assert b"exit" in got[ERROR]


def test_a_websocket_of_v5_says_that_standard_input_ends(pod: LiveNode) -> None:
    data = os.urandom(60_000)
    with exec_channels(pod, "v5.channel.k8s.io", "sh", "-c", "cat; exit 4", stdin="1", stdout="1") as client:
        assert client.protocol == "v5.channel.k8s.io", client.head
        client.send(STDIN, data)
        client.send(CLOSES, bytes([STDIN]))
        got, said = b"", b""
        while (found := client.receive()) is not None:
            got, said = (got + found[1], said) if found[0] == STDOUT else (got, said + found[1])
    assert digest(got) == digest(data)
    assert json.loads(said)["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]


def test_a_websocket_by_get_forwards_a_port(pod: LiveNode) -> None:
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{POD}/portforward"
    with Channels(pod, path, [("ports", "7000")], "v4.channel.k8s.io") as client:
        assert client.protocol == "v4.channel.k8s.io", client.head
        named = struct.pack("<H", 7000)
        assert sorted([client.receive(), client.receive()]) == [(0, named), (1, named)]  # type: ignore[type-var]
        client.send(0, b"there and back")
        got = b""
        while len(got) < 14 and (found := client.receive()) is not None:
            got += found[1]
    assert got == b"there and back"


def test_kubectls_websockets_reach_the_node_as_they_are(pod: LiveNode, request: pytest.FixtureRequest) -> None:
    """A real API server passes them on to a node that declares that it takes them; one that is too old to know of it
    translates them, and the embedded one never does."""
    kubectl = Kubectl(kubectls.newest(request.config.getoption("kubernetes")), pod)
    line = re.compile(r'^kubelet_websocket_streaming_requests_total\{.*subresource="(\w+)"\} (\d+)$', re.MULTILINE)

    def counted() -> dict[str, int]:
        page = pod.kubectl("get", "--raw", f"/api/v1/nodes/{pod.name}/proxy/metrics")
        return {kind: int(count) for kind, count in line.findall(page)}

    declared = pod.get("node", pod.name)["status"].get("declaredFeatures", ())
    passes = pod.place.embedded or "ExtendWebSocketsToKubelet" in declared
    before = counted()
    assert kubectl.run("exec", POD, "--", "true").returncode == 0
    with forwarded(kubectl, 7000) as (echo,):
        assert exchange(echo, b"there and back", 14) == b"there and back"
    after = counted()
    for kind in ("exec", "portforward"):
        assert after.get(kind, 0) - before.get(kind, 0) == int(passes), (kind, declared)


def restart(node: LiveNode, *programs: str) -> None:
    for program in programs:
        before = node.pid(program)
        node.supervisorctl("restart", program)
        node.wait_running(program, but=before)


def test_sessions_outlive_a_restart_of_every_neighbour(plain: Kubectl) -> None:
    node = plain.node
    with (
        plain.session("exec", "-i", POD, "--", "cat") as session,
        forwarded(plain, 7000) as (echo,),
        socket.create_connection(("127.0.0.1", echo), SECONDS) as connection,
    ):

        def both(word: bytes) -> None:
            assert session.stdin is not None
            session.stdin.write(word)
            session.stdin.flush()
            connection.sendall(word)
            assert exactly(session, len(word)) == word
            back = b""
            while len(back) < len(word) and (part := connection.recv(len(word) - len(back))):
                back += part
            assert back == word

        both(b"before")
        restart(node, "api-watcher", "cri-bridge", "kube-proxy")
        both(b"afterwards")
        assert session.communicate(timeout=SECONDS) == (b"", b"")
        assert session.returncode == 0
    wait_for("the node is Ready", node.is_node_ready, 90)


def test_a_session_that_log_server_or_the_api_server_has_to_cut_is_told_so(
    pod: LiveNode, request: pytest.FixtureRequest
) -> None:
    """A client cannot tell a connection that just ends from a command that succeeded, so it must not just end. What
    ends within the drain is whole."""
    ages = [kubectls.aged(age, request.config.getoption("kubernetes")) for age in kubectls.AGES]
    script = "echo begun; exec sleep 3600"
    with ExitStack() as held:
        cut = [held.enter_context(Kubectl(age, pod).session("exec", POD, "--", "sh", "-c", script)) for age in ages]
        ends = "echo begun; cat; exit 4"
        brief = held.enter_context(Kubectl(ages[1], pod).session("exec", "-i", POD, "--", "sh", "-c", ends))
        follower = held.enter_context(Kubectl(ages[1], pod).session("logs", "-f", POD))
        client = held.enter_context(exec_channels(pod, "v4.channel.k8s.io", "sh", "-c", script, stdout="1"))
        assert client.until(STDOUT) == b"begun\n"
        for session, line in [(follower, b"begin\n"), *((session, b"begun\n") for session in (brief, *cut))]:
            assert lines(session, 1) == [line]
        restarting = held.enter_context(supervisorctl(pod, "restart", "log-server"))
        wait_for("it stops", lambda: pod.states().get("log-server") == "STOPPING")
        assert brief.communicate(b"in time", timeout=SECONDS) == (b"in time", b"command terminated with exit code 4\n")
        message = f"log-server of node {pod.name} has ended, and this session with it"
        for session in cut:
            told = session.communicate(timeout=SECONDS)[1].decode()  # behind "Internal error occurred" where a real
            assert told.endswith(f"{message}\n")  # API server translates a WebSocket
            assert session.returncode == 1
        assert message in json.loads(client.until(ERROR))["message"]
        assert restarting.wait(SECONDS) == 0
        if pod.place.embedded:
            assert follower.communicate(timeout=SECONDS)[1] == b"error: unexpected EOF\n"
            wait_for("it answers", lambda: pod.kubectl("logs", POD, check=False) == "begin\n")
            session = held.enter_context(Kubectl(ages[1], pod).session("exec", POD, "--", "sh", "-c", script))
            assert lines(session, 1) == [b"begun\n"]
            restart(pod, "apiserver")
            told = session.communicate(timeout=SECONDS)[1].decode()
            assert told == "error: the API server has ended, and this session with it\n"
    wait_for("the node is Ready", pod.is_node_ready, 90)


def supervisorctl(node: LiveNode, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [str(BIN / "supervisorctl"), "-c", str(node.instance.state_dir / "supervisor.conf"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)
