"""Which files are pictures: by their suffix in folders, by their first bytes where Pillow gives up."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image

# Pillow knows these suffixes, but can only write the format, or needs other programs to decode it.
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF"})

RAW = "camera raw"  # each maker has a format of its own
_NAMES = {  # of picture formats that Pillow does not decode: suffixes
    "HEIC": ".heic .heics .heif .heifs .hif .avci .avcs",
    "AVIF": ".avif .avifs",  # some builds of Pillow decode this one and the next two
    "WebP": ".webp",
    "JPEG 2000": ".jp2 .j2k .jpf .jpx",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp .hdp",
    "JPEG-LS": ".jls",
    "SVG": ".svg .svgz",
    "EPS": ".eps .ps",
    "WMF": ".wmf .emf",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "DICOM": ".dcm .dicom",
    "GIMP": ".xcf",
    "Krita": ".kra",
    RAW: ".3fr .arw .cap .cr2 .cr3 .crw .dcr .dcs .dng .erf .fff .gpr .iiq .kdc .mef .mos .mrw .nef .nrw "
    ".orf .ori .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f",
}
UNREADABLE = {suffix: name for name, suffixes in _NAMES.items() for suffix in suffixes.split()}

# In files of the ISO base media format, what stands behind "ftyp".
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_STARTS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"II\xbc\x01": "JPEG XR",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"gimp xcf": "GIMP",
    b"%!PS": "EPS",
    b"FUJIFILMCCD-RAW": RAW,
    b"IIRO": RAW,
    b"IIRS": RAW,
    b"IIU\0": RAW,
    b"MMOR": RAW,
    b"FOVb": RAW,
    b"\0MRM": RAW,
}
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")
HEAD = 512  # bytes that `what_it_is` needs


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the formats that Pillow decodes here."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name not in NOT_DECODED)


def is_picture(path: Path) -> bool:
    """Whether a file is named as a picture, of a format that Pillow decodes or of another."""
    suffix = path.suffix.lower()
    return suffix in readable_suffixes() or suffix in UNREADABLE


def unreadable(path: Path) -> str | None:
    """The format of a picture file that Pillow can't decode, by its suffix; None for any other file.

    A file whose content Pillow recognises is no such file, whatever its suffix. For camera raw the
    suffix decides, since what Pillow recognises in them is a small preview.
    """
    suffix = path.suffix.lower()
    if suffix in readable_suffixes() or suffix not in UNREADABLE:
        return None
    name = UNREADABLE[suffix]
    return name if name == RAW or not _recognised(path) else None


def without_pillow(name: str) -> str:
    """What to do with a picture of a format that Pillow can't read; behind "it is"."""
    return f"{name}, which Pillow can't read; convert it to JPEG or PNG"


def what_it_is(head: bytes) -> str:
    """Why Pillow does not recognise a file as a picture, of its first `HEAD` bytes: what "it is"."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    name = _format_of(head)
    if name:
        return without_pillow(name)
    if not head:
        return "empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the picture itself; get it by `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML), not the picture itself; download it again"
    if b"<svg" in text:
        return without_pillow("SVG")
    if head.startswith(b"%PDF"):
        return "a PDF, not a picture; convert it to JPEG or PNG"
    if head[4:8] == b"ftyp":
        return "a video, not a picture"
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        return "an archive, not a picture; unpack it first"
    return "damaged, or of a format that Pillow does not know"


def _format_of(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return RAW if brand == b"crx " else "HEIC" if brand in _HEIC_BRANDS else None
    return next((name for start, name in _STARTS.items() if head.startswith(start)), None)


def _recognised(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.format not in NOT_DECODED
    except Exception:  # an unknown or damaged file, for which plugins raise many types
        return False
