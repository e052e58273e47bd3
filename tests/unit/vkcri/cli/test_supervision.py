"""supervisor.conf: what supervisord must hold to, and the same file for another instance."""

import configparser
import re

import pytest

from vkcri.cli.supervision import configuration
from vkcri.config import Instance


def programs(instance: Instance) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=None)
    parser.read_string(configuration(instance))
    return parser


def test_the_file_names_the_programs_in_their_order() -> None:
    parser = programs(Instance())
    sections = [name.removeprefix("program:") for name in parser.sections() if name.startswith("program:")]
    assert tuple(sections) == Instance().programs
    priorities = [parser.getint(f"program:{name}", "priority") for name in sections]
    assert priorities == sorted(priorities)


@pytest.mark.parametrize("name", Instance().programs)
def test_no_program_becomes_fatal_and_a_configuration_error_waits_for_a_person(name: str) -> None:
    section = dict(programs(Instance()).items(f"program:{name}"))
    assert section["startretries"] == "1000000"
    assert section["autorestart"] == "unexpected"
    codes = {"0", "78"} if name in ("containerd", "apiserver") else {"78"}
    assert set(section["exitcodes"].split(",")) == codes
    assert section["command"].startswith("%(here)s/.venv/bin/vkcri-")


def test_the_control_socket_is_for_root_alone() -> None:
    parser = programs(Instance())
    assert parser.get("unix_http_server", "chmod") == "0700"
    assert parser.get("unix_http_server", "file") == str(Instance().supervisor_socket)


def test_another_instances_file_names_none_of_the_default_ones_paths() -> None:
    instance = Instance("other-7")
    text = configuration(instance)
    assert programs(instance).get("unix_http_server", "file") == str(instance.supervisor_socket)
    assert programs(instance).get("supervisord", "environment").split(",")[0] == 'VKCRI_INSTANCE="other-7"'
    code = "\n".join(line for line in text.splitlines() if not line.startswith(";"))
    assert re.findall(r"/vk-cri[/.]", code) == []
    assert "%(here)s" not in code
