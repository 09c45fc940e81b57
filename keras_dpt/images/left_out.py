"""Images in folders that cannot be read as they are, and why."""

from pathlib import Path

from PIL import Image

from keras_dpt.images.disguises import HEIF_ADVICE

_RAW = "raw files of cameras are developed by other programs: save them as JPEG"
# fmt: off
REASONS = {
    HEIF_ADVICE: (".heic", ".heif", ".hif"),
    _RAW: (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"),
    "vector drawings are no photos: save them as PNG": (".svg",),
    "save them as PNG or JPEG": (".exr", ".hdr", ".jxl", ".psd", ".xcf"),
}
# fmt: on


def is_learnt(path: Path) -> bool:
    """Whether a plugin has taught Pillow to read HEIC, and this is such a file."""
    suffix = path.suffix.lower()
    return suffix in REASONS[HEIF_ADVICE] and suffix in Image.registered_extensions()


def what_was_left_out(paths: list[Path]) -> str:
    """Sentences that name files which look like images and say why they were left out; or ""."""
    sentences = []
    for reason, suffixes in REASONS.items():
        names = sorted({str(path) for path in paths if path.suffix.lower() in suffixes})
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            sentences.append(f"Left out {', '.join(names[:5])}{more}: {reason}.")
    return " ".join(sentences)
