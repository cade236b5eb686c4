"""What the doctor finds on a host, made up in folders, and what it says of it."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import socket
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from speckfarm_server.boards.samna.install import Samna, SamnaKind, find_samna
from speckfarm_server.config import TlsConfig
from speckfarm_server.doctor import clock, data, reach, software, usb
from speckfarm_server.doctor.line import State, as_json, as_text, is_healthy, note, ok, wrong
from speckfarm_server.store.database import HEAD, migrate, open_engine
from speckfarm_server.tls import load_certificate

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)

# As PyPI's 0.48.6 does it, in its own words as far as the doctor reads them.
STUB = """
import pathlib
pathlib.Path({mark!r}).touch()
PYPI_SAMNA = True
"""


# Lines


def test_a_report_is_healthy_until_something_is_wrong() -> None:
    lines = [ok("a", "fine"), note("bb", "so so", "Look at it")]

    assert is_healthy(lines)
    assert not is_healthy([*lines, wrong("c", "broken", "Mend it")])


def test_the_text_has_a_line_for_each_check_and_says_what_to_do() -> None:
    text = as_text([ok("a", "fine"), note("bb", "so so"), wrong("c", "broken", "Mend it")])

    assert text.splitlines() == [
        "OK     a   fine",
        "note   bb  so so",
        "WRONG  c   broken. Mend it",
    ]


def test_the_json_has_every_line() -> None:
    assert json.loads(as_json([wrong("c", "broken", "Mend it")])) == {
        "ok": False,
        "lines": [{"check": "c", "state": "wrong", "found": "broken", "advice": "Mend it"}],
    }


# Python and packages


def test_the_table_of_packages_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    wanted = {re.sub(r"; platform_system.*", "", text) for text in texts}

    written = {
        f"{each.name}>={each.at_least}"
        + (f",<{each.below}" if each.below else "")
        + ("; python_version < '{}.{}'".format(*each.python_below) if each.python_below else "")
        for each in software.REQUIREMENTS
    }

    assert written == wanted
    assert project["requires-python"] == ">={}.{}".format(*software.OLDEST_PYTHON)


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 9, 18), "wrong"), ((3, 10, 0), "ok"), ((3, 13, 2), "ok"), ((3, 14, 0), "note")],
)
def test_pythons_are_judged(version: tuple[int, ...], state: str) -> None:
    assert software.judge_python(version).state == state


def installed(**changed: str | None) -> dict[str, str | None]:
    versions: dict[str, str | None] = {each.name: each.at_least for each in software.REQUIREMENTS}
    return versions | changed


def test_the_oldest_allowed_packages_are_fine() -> None:
    (line,) = software.judge_packages(installed(), (3, 10, 0))

    assert line.state is State.OK
    assert "numba 0.60" in line.found


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"numba": None}, "numba is not installed"),
        ({"numba": "0.59.9"}, "numba is 0.59.9; wanted: numba>=0.60"),
        ({"protobuf": "8.0.0rc1"}, "protobuf is 8.0.0rc1; wanted: protobuf>=6.31.1,<8"),
    ],
)
def test_a_package_that_is_missing_too_old_or_too_new_is_named(
    changed: dict[str, str | None], found: str
) -> None:
    lines = software.judge_packages(installed(**changed), (3, 12, 0))

    assert [line.found for line in lines] == [found]
    assert not is_healthy(lines)


@pytest.mark.parametrize(("python", "lines"), [((3, 10, 0), 1), ((3, 11, 0), 0)])
def test_what_only_older_pythons_need_is_asked_of_them_only(
    python: tuple[int, ...], lines: int
) -> None:
    found = software.judge_packages(installed(tomli=None), python)

    assert sum(line.state is State.WRONG for line in found) == lines


def test_all_packages_of_this_environment_are_found() -> None:
    names = [each.name for each in software.REQUIREMENTS if each.python_below is None]

    assert None not in software.find_packages(names).values()
    assert software.find_packages(["no-such-package"]) == {"no-such-package": None}


# samna


def install(folder: Path, files: dict[str, str], version: str) -> list[str]:
    """Put a package called samna into a folder; the path to look for it."""
    for name, text in files.items():
        path = folder / "samna" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    info = folder / f"samna-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: samna\nVersion: {version}\n")
    return [str(folder)]


THIS_PYTHON = next(each for each in EXTENSION_SUFFIXES if "cpython" in each)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"__init__.py": STUB}, SamnaKind.STUB),
        ({"__init__.py": "import subprocess  # pip install"}, SamnaKind.STUB),
        ({"__init__.py": "", f"samna{THIS_PYTHON}": ""}, SamnaKind.REAL),
        ({"__init__.py": "", "lib/_samna.abi3.so": ""}, SamnaKind.REAL),
        ({"__init__.py": "", "samna.cpython-38-x.so": ""}, SamnaKind.OTHER_PYTHON),
        ({"__init__.py": "speck = 1"}, SamnaKind.UNKNOWN),
    ],
)
def test_samna_is_told_from_the_stub_without_running_it(
    files: dict[str, str], kind: SamnaKind, tmp_path: Path
) -> None:
    mark = tmp_path / "imported"
    texts = {name: text.replace("{mark!r}", repr(str(mark))) for name, text in files.items()}
    path = install(tmp_path / "packages", texts, "0.48.6")

    found = find_samna(path)

    assert (found.kind, found.version) == (kind, "0.48.6")
    assert found.folder == tmp_path / "packages" / "samna"
    assert not mark.exists()
    assert "samna" not in sys.modules


def test_no_samna_is_absent(tmp_path: Path) -> None:
    assert find_samna([str(tmp_path)]) == Samna(kind=SamnaKind.ABSENT)


@pytest.mark.parametrize(
    ("kind", "needed", "state"),
    [
        ("real", True, "ok"),
        ("absent", False, "note"),
        ("absent", True, "wrong"),
        ("stub", False, "wrong"),
        ("other python", False, "wrong"),
        ("unknown", False, "wrong"),
    ],
)
def test_samna_is_judged_by_what_the_boards_need(kind: str, needed: bool, state: str) -> None:
    found = Samna(kind=SamnaKind(kind), version="0.48.6", folder=Path("/p"))

    line = software.judge_samna(found, needed=needed)

    assert line.state == state
    assert bool(line.advice) == (state != "ok")


# USB


def plug(root: Path, name: str, *, mode: int = 0o600, **files: str) -> None:
    """A device of a made-up /sys/bus/usb/devices and /dev/bus/usb."""
    values = {"busnum": "2", "devnum": "9", "bDeviceClass": "00"} | files
    folder = root / "sys" / name
    folder.mkdir(parents=True)
    for key, value in values.items():
        (folder / key).write_text(f"{value}\n")
    node = root / "dev" / f"{int(values['busnum']):03d}" / f"{int(values['devnum']):03d}"
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch(mode)


def test_devices_are_found_with_their_nodes_and_hubs_are_not(tmp_path: Path) -> None:
    plug(tmp_path, "usb2", devnum="1", bDeviceClass="09")
    plug(tmp_path, "2-1", idVendor="0abc", idProduct="0def", manufacturer="Lab", product="Thing")
    (tmp_path / "sys" / "2-1:1.0").mkdir()  # an interface has no number of its own

    found = usb.find_devices(tmp_path / "sys", tmp_path / "dev")

    assert found == [
        usb.UsbDevice(
            port="2-1",
            node=tmp_path / "dev" / "002" / "009",
            ids="0abc:0def",
            name="Lab Thing",
            is_accessible=True,
        )
    ]


def test_a_node_that_is_gone_cannot_be_opened(tmp_path: Path) -> None:
    plug(tmp_path, "2-1")
    (tmp_path / "dev" / "002" / "009").unlink()

    (found,) = usb.find_devices(tmp_path / "sys", tmp_path / "dev")

    assert not found.is_accessible


def test_a_host_without_usb_has_no_devices(tmp_path: Path) -> None:
    assert usb.find_devices(tmp_path / "sys", tmp_path / "dev") == []


def device(port: str = "2-1", *, is_accessible: bool) -> usb.UsbDevice:
    node = Path("/dev/bus/usb/002/009")
    return usb.UsbDevice(
        port=port, node=node, ids="0abc:0def", name="", is_accessible=is_accessible
    )


@pytest.mark.parametrize(
    ("found", "has_bus", "state", "text"),
    [
        ([], False, "wrong", "there is no /dev/bus/usb"),
        ([], True, "wrong", "no device but hubs"),
        ([device(is_accessible=False)], True, "wrong", "none of 1 devices may be opened"),
        ([device(is_accessible=True)], True, "ok", "0abc:0def (/dev/bus/usb/002/009)"),
    ],
)
def test_usb_is_judged_by_what_this_user_may_open(
    found: Sequence[usb.UsbDevice], has_bus: bool, state: str, text: str
) -> None:
    line = usb.judge_devices(found, has_bus=has_bus, needed=True)
    unneeded = usb.judge_devices(found, has_bus=has_bus, needed=False)

    assert line.state == state
    assert text in line.found
    assert unneeded.state == ("ok" if state == "ok" else "note")


@pytest.mark.parametrize(
    ("ports", "state"), [([], "ok"), (["2-1"], "ok"), (["2-9"], "ok"), (["2-1", "2-2"], "wrong")]
)
def test_a_device_at_a_port_that_a_board_names_must_be_open(ports: list[str], state: str) -> None:
    found = [device(is_accessible=True), device("2-2", is_accessible=False)]

    line = usb.judge_devices(found, has_bus=True, needed=True, ports=ports)

    assert line.state == state


def test_rules_in_effect_are_told_from_comments_and_from_those_of_others(tmp_path: Path) -> None:
    (tmp_path / "70-speckfarm.rules").write_text('# SUBSYSTEM=="usb"\n\n')
    (tmp_path / "60-vendor.rules").write_text('# SynSense\nSUBSYSTEM=="usb", MODE="0666"\n')
    (tmp_path / "99-printer.rules").write_text('SUBSYSTEM=="usb"\n')

    found = usb.find_rules([tmp_path, tmp_path / "none"])

    assert [(file.path.name, file.rules) for file in found] == [
        ("60-vendor.rules", 1),
        ("70-speckfarm.rules", 0),
    ]
    assert usb.judge_rules(found, needed=True).state is State.OK
    assert usb.judge_rules(found[1:], needed=True).state is State.WRONG
    assert usb.judge_rules([], needed=True).state is State.WRONG
    assert usb.judge_rules([], needed=False).state is State.NOTE


# Clock


def shown(wall_s: float = 1e9, **changed: object) -> clock.Clock:
    facts: dict[str, object] = {"readings_s": [1.0, 1.0, 2.0], "is_synchronised": True} | changed
    return clock.Clock(wall_s=wall_s, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "newest_s", "state", "text"),
    [
        (shown(), None, "ok", "2001-09-09 01:46 UTC, synchronised"),
        (shown(), 1e9 + 59, "ok", "synchronised"),
        (shown(), 1e9 + 61, "wrong", "data was written 2001-09-09 01:47 UTC"),
        (shown(readings_s=[2.0, 1.0]), None, "wrong", "backwards"),
        (shown(is_synchronised=False), None, "note", "not synchronised"),
        (shown(is_synchronised=None), None, "note", "does not tell"),
    ],
)
def test_clocks_are_judged(
    found: clock.Clock, newest_s: float | None, state: str, text: str
) -> None:
    line = clock.judge_clock(found, newest_s)

    assert line.state == state
    assert text in line.found


def test_the_clock_of_this_machine_can_be_read() -> None:
    found = clock.find_clock()

    assert len(found.readings_s) == clock.READINGS
    assert clock.judge_clock(found, found.wall_s).state in (State.OK, State.NOTE)


# Data folder


def folder(**changed: object) -> data.Folder:
    facts: dict[str, object] = {
        "path": Path("/data"), "exists": True, "owner": "speckfarm", "is_writable": True,
        "is_private": True, "filesystem": "ext4", "free_bytes": 100 * data.GI,
    }  # fmt: skip
    return data.Folder(**(facts | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "states", "text"),
    [
        (folder(), ["ok", "ok"], "/data, of speckfarm"),
        (folder(exists=False), ["note", "ok"], "the first start makes it"),
        (folder(is_writable=False), ["wrong"], "belongs to speckfarm and alice may not"),
        (folder(exists=False, is_writable=False), ["wrong"], "alice may not make it"),
        (folder(is_private=False), ["note", "ok"], "can be looked into"),
        (folder(filesystem="nfs4"), ["wrong", "ok"], "lies on nfs4"),
        (folder(free_bytes=data.GI - 1), ["ok", "wrong"], "1.0 GiB free"),
        (folder(free_bytes=5 * data.GI), ["ok", "note"], "5.0 GiB free"),
    ],
)
def test_data_folders_are_judged(found: data.Folder, states: list[str], text: str) -> None:
    lines = data.judge_folder(found, "alice")

    assert [line.state for line in lines] == states
    assert any(text in line.found for line in lines)


def test_a_folder_is_looked_at_where_it_is_or_would_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    there, not_there = data.find_folder(tmp_path), data.find_folder(tmp_path / "a" / "b")

    assert (there.exists, not_there.exists) == (True, False)
    assert there.is_writable
    assert not_there.is_writable
    assert there.owner == data.user_name(os.geteuid())
    assert there.free_bytes > 0
    assert there.filesystem == not_there.filesystem
    assert not (tmp_path / "a").exists()


def test_the_filesystem_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    real = tmp_path.resolve()
    mounts.write_text(f"x / ext4 rw 0 0\ny {real} nfs4 rw 0 0\nz {real}/other tmpfs rw 0 0\n")
    (tmp_path / "data").mkdir()

    assert data.filesystem_of(tmp_path / "data", mounts) == "nfs4"
    assert data.filesystem_of(Path("/"), mounts) == "ext4"
    assert data.filesystem_of(Path("/"), tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("milliseconds", "state"), [(1.0, "ok"), (50.0, "ok"), (50.1, "note"), (math.nan, "wrong")]
)
def test_disks_are_judged_by_a_durable_write(milliseconds: float, state: str) -> None:
    assert data.judge_fsync(milliseconds).state == state


def test_a_durable_write_is_timed_and_leaves_nothing(tmp_path: Path) -> None:
    assert data.find_fsync_ms(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []
    assert math.isnan(data.find_fsync_ms(tmp_path / "none"))


def test_a_lock_is_seen_only_while_it_is_held(tmp_path: Path) -> None:
    assert not data.find_lock(tmp_path)
    with (tmp_path / "lock").open("w") as file:
        assert not data.find_lock(tmp_path)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert data.find_lock(tmp_path)

    assert not data.find_lock(tmp_path)


def test_a_database_of_this_version_is_sound(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "farm.db", writes=True)
    migrate(engine)
    engine.dispose()

    found = data.find_database(tmp_path)

    assert found == data.Database(exists=True, revision=HEAD)
    assert data.judge_database(found, HEAD).state is State.OK


def test_no_database_is_made_by_looking(tmp_path: Path) -> None:
    found = data.find_database(tmp_path)

    assert data.judge_database(found, HEAD).state is State.NOTE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "state", "text"),
    [
        (b"no database at all", "wrong", "damaged: file is not a database"),
        (b"", "note", "without any tables"),
    ],
)
def test_what_is_no_database_is_told_from_one_that_is_empty(
    content: bytes, state: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "farm.db").write_bytes(content)

    line = data.judge_database(data.find_database(tmp_path), HEAD)

    assert line.state == state
    assert text in line.found


@pytest.mark.parametrize(
    ("revision", "state", "text"),
    [("0002", "ok", "schema 0002"), ("0001", "note", "this version's is 0002"),
     ("0003", "wrong", "of a newer version")],
)  # fmt: skip
def test_schemas_are_judged_against_this_versions(
    revision: str, state: str, text: str, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "farm.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", [revision])
        connection.commit()

    line = data.judge_database(data.find_database(tmp_path), "0002")

    assert line.state == state
    assert text in line.found


# Port and certificate


def test_a_free_port_is_told_from_one_that_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken = reach.find_port("127.0.0.1", port, tmp_path)
    free = reach.find_port("127.0.0.1", port, tmp_path)

    assert (taken.is_answering, free.is_answering) == (True, False)
    assert reach.judge_port(taken, is_held=False).state is State.WRONG
    assert reach.judge_port(free, is_held=False).state is State.OK


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "127.0.0.1"])
def test_any_free_port_is_free(host: str, tmp_path: Path) -> None:
    assert reach.judge_port(reach.find_port(host, 0, tmp_path), is_held=False).state is State.OK


def test_an_address_of_another_host_cannot_be_listened_on(tmp_path: Path) -> None:
    found = reach.find_port("192.0.2.1", 0, tmp_path)  # RFC 5737: nobody's

    line = reach.judge_port(found, is_held=False)

    assert line.state is State.WRONG
    assert "192.0.2.1:0 cannot be listened on" in line.found


@pytest.mark.parametrize(
    ("server", "is_answering", "is_held", "state", "text"),
    [
        ("127.0.0.1:5", True, True, "ok", "this farm's server"),
        ("127.0.0.1:6", True, True, "wrong", "another program"),
        ("127.0.0.1:5", True, False, "wrong", "another program"),
        ("127.0.0.1:6", False, True, "note", "is at 127.0.0.1:6"),
        ("", False, False, "ok", "is free"),
    ],
)
def test_ports_are_ours_if_our_server_says_so(
    server: str, is_answering: bool, is_held: bool, state: str, text: str
) -> None:
    found = reach.Port(listen="0.0.0.0:5", is_answering=is_answering, server=server)

    line = reach.judge_port(found, is_held=is_held)

    assert line.state == state
    assert text in line.found


def test_the_certificate_that_a_server_made_is_fine(tmp_path: Path) -> None:
    load_certificate(TlsConfig(), tmp_path / "tls")

    found = reach.find_certificate(TlsConfig(), tmp_path / "tls")

    assert reach.judge_certificate(found, datetime.now(timezone.utc)).state is State.OK
    assert found.problem == ""
    assert found.has_names


def test_no_certificate_is_made_by_looking(tmp_path: Path) -> None:
    found = reach.find_certificate(TlsConfig(), tmp_path / "tls")

    assert reach.judge_certificate(found, NOW).state is State.NOTE
    assert not (tmp_path / "tls").exists()


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        load_certificate(TlsConfig(), tmp_path / name)
    config = TlsConfig(
        certificate=str(tmp_path / "a" / "certificate.pem"), key=str(tmp_path / "b" / "key.pem")
    )

    line = reach.judge_certificate(reach.find_certificate(config, tmp_path), NOW)

    assert line.state is State.WRONG
    assert "is not the key of this certificate" in line.found


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_read_is_wrong(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    if content is not None:
        path.write_text(content)
    config = TlsConfig(certificate=str(path), key=str(tmp_path / "key.pem"))

    assert reach.judge_certificate(reach.find_certificate(config, tmp_path), NOW).state == "wrong"


def certificate(*, days: float = 365, **changed: object) -> reach.CertificateFile:
    facts: dict[str, object] = {
        "path": Path("/c.pem"), "exists": True, "is_own": True, "has_names": True,
        "begins": NOW - timedelta(days=1), "ends": NOW + timedelta(days=days),
    }  # fmt: skip
    return reach.CertificateFile(**(facts | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "state", "text"),
    [
        (None, "ok", "loopback"),
        (certificate(), "ok", "valid until 2027-06-01"),
        (certificate(days=29), "note", "valid until 2026-06-30"),
        (certificate(days=-0.1), "wrong", "valid from 2026-05-31 to 2026-05-31"),
        (certificate(begins=NOW + timedelta(days=1)), "wrong", "valid from 2026-06-02"),
        (certificate(has_names=False), "wrong", "subject alternative name"),
        (certificate(is_key_private=False), "wrong", "can be read by others"),
    ],
)
def test_certificates_are_judged(
    found: reach.CertificateFile | None, state: str, text: str
) -> None:
    line = reach.judge_certificate(found, NOW)

    assert line.state == state
    assert text in line.found
