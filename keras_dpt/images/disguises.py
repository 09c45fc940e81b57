"""What a file is that ends like an image and is none. No import but the standard library."""

_BY_START = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself. Fetch it: git lfs pull"),
    (b"<!doctype html", "a web page (HTML). Download the file itself, not the page that shows it"),
    (b"<html", "a web page (HTML). Download the file itself, not the page that shows it"),
    (b"<svg", "a vector drawing (SVG). Save it as PNG"),
    (b"<?xml", "XML: a drawing, or a server's error message. Download it again, or save it as PNG"),
    (b"%pdf", "a PDF. Save its pages as PNG"),
    (b"\x93numpy", "a NumPy array. Load it: numpy.load"),
    (b"pk\x03\x04", "a ZIP archive. Unpack it"),
    (b"{", "text (JSON), perhaps a server's error message. Download it again"),
)
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1")
HEIF_ADVICE = (
    "HEIC is read after `pip install pillow-heif` and, in Python, "
    "`pillow_heif.register_heif_opener()`; or save it as JPEG"
)


def disguise(path):
    """What a file really is and what to do, a sentence; "" if its first bytes do not say."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError:
        return ""
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF:
        return f"It is a HEIC image. {HEIF_ADVICE}."
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<?xml") and b"<svg" in text:
        text = b"<svg"
    for signature, what in _BY_START:
        if text.startswith(signature):
            return f"It is {what}."
    return ""
