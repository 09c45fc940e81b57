"""The table of a verification."""

from keras_dpt.verification.verify import FAILED, VERIFIED

_HASHES = {"whole": "matches", "start": "start matches", "not known": "not known before"}
_HEADER = ("preset", "file", "hash", "leftover", "difference", "seconds", "peak", "result")


def table(results):
    """Results of `verify` as lines of aligned columns, and a line that counts them.

    "difference" is the largest one, in standard deviations of the original's output.
    """
    rows = [_HEADER, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    failed = [row for row in results if row["status"] == FAILED]
    lines += [f"\n{row['preset']}, {row['address']}: {row['message']}" for row in failed]
    verified = sum(row["status"] == VERIFIED for row in results)
    others = len(results) - verified - len(failed)
    lines.append(
        f"\n{verified} of {len(results)} verified, {others} converted without comparison, "
        f"{len(failed)} failed"
    )
    few = [row for row in results if row["status"] == VERIFIED and row.get("pictures", 3) < 3]
    if few:
        lines.append(f"{len(few)} of them compared on fewer than three images (--pictures)")
    return "\n".join(lines)


def _row(row):
    difference, leftover, peak = (row.get(x) for x in ("difference", "leftover", "peak_bytes"))
    if difference is None:
        compared = "-" if row["status"] == FAILED else "no reference here"
    else:
        compared = f"{difference:.1e}"
    ignored = f" ({row['ignored']} ignored)" if row.get("ignored") else ""
    return (
        row["preset"],
        row["address"].rpartition("/")[2],
        _HASHES.get(row.get("hash"), "-"),
        "-" if leftover is None else f"{leftover}{ignored}",
        compared,
        f"{row['seconds']:.0f}",
        f"{peak / 1e9:.1f} GB" if peak else "-",
        row["status"],
    )
