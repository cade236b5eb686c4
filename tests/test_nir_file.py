"""Hostile, damaged and mistaken files in place of a NIR file."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from speckfarm_server.errors import BadInput
from speckfarm_server.parse import parse_network
from tests.nir_files import chain, linear, neurons, nir_bytes, small_chain, write_graph


def refused(data: bytes) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse_network(data)
    return caught.value


def hostile(change: Callable[[h5py.File], None]) -> bytes:
    """A legal file with something done to it; node "0" is Linear with `weight`."""
    nodes, edges = chain(linear((2, 3)), neurons(), input_shape=(3,))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_graph(file.create_group("node"), nodes, edges)
        change(file)
    return buffer.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def array_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "an empty file"),
        (pickle.dumps({"weight": [1.0]}), "a Python pickle"),
        (zipped("archive/data.pkl", pickle.dumps(1)), "a PyTorch file (zip with pickles)"),
        (zipped("events.npy", b""), "a NumPy .npz file"),
        (zipped("model.onnx", b""), "a zip archive"),
        (array_file(), "a NumPy .npy file"),
        (b'{"nodes": []}', "JSON text"),
        (b"import torch\n", "text"),
        (b"\x1f\x8b\x08\x00", "a gzip file"),
        (bytes(range(128, 256)), "unknown binary data"),
        (b"\x89HDF", "unknown binary data"),
    ],
)
def test_the_message_says_what_the_file_looks_like_and_what_is_wanted(data: bytes, kind: str):
    error = refused(data)

    assert error.reason == "MODEL_UNREADABLE"
    assert f"This is {kind}." in error.message
    assert "NIR" in error.message


def test_a_file_over_the_limit_is_refused_before_it_is_opened():
    error = refused(small_chain() + bytes(17 << 20))

    assert error.reason == "MODEL_TOO_LARGE"
    assert error.metadata["allowed"] == "16,777,216 bytes"


def test_an_hdf5_file_that_is_no_nir_file_is_named_so():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["weights"] = [1.0]

    error = refused(buffer.getvalue())

    assert error.reason == "MODEL_UNREADABLE"
    assert "without the group 'node'" in error.message


def test_a_single_node_is_not_a_graph():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["node/type"] = "Linear"

    assert "single node of type 'Linear'" in refused(buffer.getvalue()).message


def test_cutting_a_file_anywhere_makes_it_unreadable():
    data = small_chain()
    cuts = [*range(64), *range(64, len(data), 997), len(data) - 1]

    found = {refused(data[:cut]).reason for cut in cuts}

    assert found == {"MODEL_UNREADABLE"}


def test_garbage_behind_the_hdf5_signature_is_unreadable():
    random.seed(1)

    found = {
        refused(small_chain()[:8] + random.randbytes(size)).reason for size in range(0, 900, 9)
    }

    assert found == {"MODEL_UNREADABLE"}


def replace_weight(file: h5py.File, **how: object) -> None:
    group = file["node/nodes/0"]
    del group["weight"]
    group.create_dataset("weight", **how)


def test_external_storage_is_refused_and_never_read(tmp_path: Path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.full(6, 42.0).tobytes())
    data = hostile(
        lambda file: replace_weight(file, shape=(2, 3), dtype="f8", external=[(str(secret), 0, 48)])
    )

    error = refused(data)

    assert (error.reason, error.metadata["path"]) == ("UNSAFE_STORAGE", "/node/nodes/0/weight")


def test_a_virtual_array_is_refused(tmp_path: Path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones((2, 3))
    layout = h5py.VirtualLayout((2, 3), "f8")
    layout[:] = h5py.VirtualSource(str(other), "secret", (2, 3))

    def change(file: h5py.File) -> None:
        del file["node/nodes/0/weight"]
        file["node/nodes/0"].create_virtual_dataset("weight", layout)

    assert refused(hostile(change)).reason == "UNSAFE_STORAGE"


@pytest.mark.parametrize(
    "link",
    [h5py.SoftLink("/node/nodes/1/r"), h5py.SoftLink("/node/nodes/0/weight"),
     h5py.ExternalLink("/etc/passwd", "/weight")],
)  # fmt: skip
@pytest.mark.parametrize("field", ["weight", "bystander"])
def test_soft_and_external_links_are_refused(link: object, field: str):
    def change(file: h5py.File) -> None:
        group = file["node/nodes/0"]
        if field in group:
            del group[field]
        group[field] = link

    error = refused(hostile(change))

    assert (error.reason, error.metadata["path"]) == ("UNSAFE_LINK", f"/node/nodes/0/{field}")


@pytest.mark.parametrize("name", ["node", "node/nodes", "node/edges", "node/nodes/0"])
def test_soft_links_are_refused_at_every_level(name: str):
    def change(file: h5py.File) -> None:
        file.move(name, "elsewhere")
        file[name] = h5py.SoftLink("/elsewhere")

    assert refused(hostile(change)).reason == "UNSAFE_LINK"


def test_a_cycle_of_hard_links_is_refused():
    def change(file: h5py.File) -> None:
        nested = file["node/nodes"].create_group("nested")
        nested["type"] = "NIRGraph"
        nested["edges"] = np.array([[b"a", b"b"]])
        nested["nodes"] = file["node/nodes"]

    assert refused(hostile(change)).reason == "UNSAFE_LINK"


def test_hard_links_that_double_per_level_are_refused():
    def change(file: h5py.File) -> None:
        parent = file["node/nodes"]
        for _ in range(60):
            child = parent.create_group("left")
            child["type"] = "NIRGraph"
            child["edges"] = np.array([[b"a", b"b"]])
            parent["right"] = child
            parent = child.create_group("nodes")

    assert refused(hostile(change)).reason in ("UNSAFE_LINK", "MODEL_TOO_LARGE")


def test_an_array_stored_once_for_two_fields_is_refused():
    def change(file: h5py.File) -> None:
        del file["node/nodes/1/r"]
        file["node/nodes/1/r"] = file["node/nodes/1/v_threshold"]

    assert refused(hostile(change)).reason == "UNSAFE_LINK"


def test_64_gib_declared_in_a_small_file_are_refused():
    data = hostile(
        lambda file: replace_weight(
            file, shape=(1 << 17, 1 << 17), dtype="f4", chunks=(1024, 1024), compression="gzip"
        )
    )

    error = refused(data)

    assert len(data) < 32_000
    assert error.reason == "MODEL_TOO_LARGE"
    assert "17,179,869,1" in error.message


def test_arrays_that_are_too_large_together_are_refused():
    def change(file: h5py.File) -> None:
        for number in range(5):
            group = file["node/nodes"].create_group(f"more{number}")
            group["type"] = "Linear"
            group.create_dataset("weight", (1000, 1000), "f4", chunks=(1000, 1000))

    assert refused(hostile(change)).reason == "MODEL_TOO_LARGE"


def test_a_huge_chunk_of_a_small_array_is_refused():
    data = hostile(
        lambda file: replace_weight(
            file, shape=(2, 3), dtype="f4", maxshape=(None, None), chunks=(1 << 14, 1 << 14)
        )
    )

    assert refused(data).reason == "MODEL_TOO_LARGE"


@pytest.mark.parametrize(
    "kind",
    [h5py.vlen_dtype(np.float32), h5py.ref_dtype, np.dtype([("a", "f4")]), np.dtype("c16"),
     np.dtype(("f4", (2,))), np.dtype("V16"), np.dtype("S9999")],
    ids=str,
)  # fmt: skip
def test_only_plain_numbers_and_texts_are_read(kind: np.dtype[np.generic]):
    error = refused(hostile(lambda file: replace_weight(file, shape=(2, 3), dtype=kind)))

    assert error.reason == "UNSAFE_STORAGE"


@pytest.mark.parametrize("compression", ["lzf", 32015])
def test_only_known_filters_are_used(compression: object):
    def change(file: h5py.File) -> None:
        group = file["node/nodes/0"]
        del group["weight"]
        if compression == "lzf":
            group.create_dataset("weight", (2, 3), "f4", compression="lzf")
            return
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((2, 3))
        created.set_filter(compression, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((2, 3))
        h5py.h5d.create(group.id, b"weight", h5py.h5t.IEEE_F32LE, space, created)

    error = refused(hostile(change))

    assert error.reason == "UNSAFE_STORAGE"
    assert "gzip" in error.message


@pytest.mark.parametrize("filters", [{"shuffle": True}, {"fletcher32": True}, {"compression": 9}])
def test_gzip_shuffle_and_checksums_are_fine(filters: dict[str, object]):
    data = hostile(lambda file: replace_weight(file, data=np.ones((2, 3)), chunks=True, **filters))

    assert parse_network(data).network is not None


def test_too_many_nodes_are_refused():
    nodes = {f"n{number}": neurons() for number in range(300)}

    assert refused(nir_bytes(nodes, [])).reason == "MODEL_TOO_LARGE"


def test_too_many_edges_are_refused():
    assert refused(nir_bytes({}, [("a", "b")] * 1025)).reason == "MODEL_TOO_LARGE"


def test_graphs_nested_too_deep_are_refused():
    nodes, edges = chain(linear((2, 3)), neurons(), input_shape=(3,))
    for _ in range(5):
        nodes, edges = chain({"nodes": nodes, "edges": edges}, input_shape=(3,))

    assert refused(nir_bytes(nodes, edges)).reason == "MODEL_TOO_LARGE"


def test_a_name_of_thousands_of_characters_is_refused():
    assert refused(nir_bytes({"n" * 9999: neurons()}, [])).reason == "MODEL_TOO_LARGE"


@pytest.mark.parametrize(
    ("field", "value"),
    [("type", 3.0), ("type", ["IF", "IF"]), ("type", b"\xff\xfe"), ("type", h5py.Empty("f4"))],
)
def test_a_kind_that_is_no_text_is_unreadable(field: str, value: object):
    def change(file: h5py.File) -> None:
        del file["node/nodes/0"][field]
        file["node/nodes/0"][field] = value

    assert refused(hostile(change)).reason == "MODEL_UNREADABLE"


def test_a_node_without_a_kind_is_unreadable():
    def change(file: h5py.File) -> None:
        del file["node/nodes/0/type"]

    assert "'/node/nodes/0/type' is missing" in refused(hostile(change)).message


@pytest.mark.parametrize("value", [np.zeros((3, 3)), np.zeros(2), np.array([[b"a"]]), 5])
def test_edges_that_are_no_pairs_of_names_are_unreadable(value: object):
    def change(file: h5py.File) -> None:
        del file["node/edges"]
        file["node/edges"] = value

    assert refused(hostile(change)).reason == "MODEL_UNREADABLE"


def test_a_group_in_place_of_an_array_is_unreadable():
    def change(file: h5py.File) -> None:
        del file["node/nodes/0/weight"]
        file["node/nodes/0"].create_group("weight")

    assert refused(hostile(change)).reason == "MODEL_UNREADABLE"


def test_an_array_in_place_of_a_group_is_unreadable():
    def change(file: h5py.File) -> None:
        file["node/nodes/extra"] = 1.0

    assert refused(hostile(change)).reason == "MODEL_UNREADABLE"


def test_metadata_is_neither_read_nor_missed():
    def change(file: h5py.File) -> None:
        file["node/nodes/0"].create_group("metadata")["deep"] = np.zeros((9, 9))

    assert parse_network(hostile(change)).findings == ()
