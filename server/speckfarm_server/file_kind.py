"""What a file looks like, judged by its first bytes: for messages about files of a wrong kind."""

from __future__ import annotations

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
NPY_MAGIC = b"\x93NUMPY"

_KINDS = (
    (HDF5_MAGIC, "an HDF5 file"),
    (ZIP_MAGIC, "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (NPY_MAGIC, "a NumPy .npy file"),
    (b"#!AER-DAT4", "an AEDAT 4 recording"),
    (b"#!AER-DAT", "an AEDAT recording"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\x7fELF", "a program"),
    (b"#ROSBAG", "a ROS bag"),
    (b"MATLAB 5.0", "a MATLAB file"),
)
_PICKLE_PROTOCOLS = (2, 3, 4, 5)


def describe(data: bytes) -> str:
    """Name the kind of a file by its first bytes, e.g. "a Python pickle"."""
    if not data:
        return "an empty file"
    if data.startswith(ZIP_MAGIC):
        return _describe_zip(data)
    for magic, kind in _KINDS:
        if data.startswith(magic):
            return kind
    if data.startswith(b"% "):
        return _describe_prophesee(data)
    if data[0] == 0x80 and len(data) > 1 and data[1] in _PICKLE_PROTOCOLS:
        return "a Python pickle"
    return _describe_text(data)


def _describe_zip(data: bytes) -> str:
    beginning = data[:4096]
    if b"data.pkl" in beginning:
        return "a PyTorch file (zip with pickles)"
    if b".npy" in beginning:
        return "a NumPy .npz file"
    return "a zip archive"


def _describe_prophesee(data: bytes) -> str:
    header = data[:1024].lower()
    if b"evt 3" in header or b"evt3" in header:
        return "a Prophesee .raw recording (EVT3)"
    if b"evt 2" in header or b"evt2" in header:
        return "a Prophesee .raw recording (EVT2)"
    return "a Prophesee .dat recording"


def _describe_text(data: bytes) -> str:
    beginning = data[:256]
    try:
        text = beginning.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown binary data"
    if not all(character.isprintable() or character in "\t\r\n" for character in text):
        return "unknown binary data"
    if text.lstrip().startswith(("{", "[")):
        return "JSON text"
    return "text"
