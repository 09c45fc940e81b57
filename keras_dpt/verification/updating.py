"""Write whole hashes of verified files into the presets' JSON, and leave the rest as it is."""

import json

from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.files import written_whole
from keras_dpt.verification.verify import VERIFIED


def update_presets(results):
    """Put the sha256 of verified files where a preset has only a start of it, or none.

    Args: results: of `verify`.
    Returns: names of the presets that were changed.
    Raises: WeightsError: a file cannot be written.
    """
    changed = []
    for row in results:
        if row["status"] != VERIFIED:
            continue
        file = presets.preset_file(row["preset"])
        text = file.read_text(encoding="utf-8")
        source = json.loads(text)["sources"][row["number"]]
        new = text
        for field, address, sha256 in _whole(source, row["sha256"]):
            new = _with_hash(new, address, field, sha256)
        if new == text:
            continue
        wanted = json.loads(text)
        source = wanted["sources"][row["number"]]
        source.pop("sha256_prefix", None)
        source |= {field: sha256 for field, _, sha256 in _whole(source, row["sha256"])}
        if json.loads(new) != wanted:
            raise WeightsError(f"{file} is laid out otherwise than expected; add the hash by hand.")
        with written_whole(file, WeightsError) as stream:
            stream.write(new.encode())
        changed.append(row["preset"])
    return sorted(set(changed))


def _whole(source, hashes):
    """`(field, how the source's object is found in the text, sha256)` of what is not known yet."""
    pairs = [("sha256", "file" if "repo" in source else "url"), ("encoder_sha256", "encoder_url")]
    for field, key in pairs:
        if key in source and len(source.get(field) or "") != 64:
            sha256 = hashes[source[key].rpartition("/")[2]]
            yield field, [source[x] for x in ("repo", "file", "url") if x in source], sha256


def _with_hash(text, address, field, sha256):
    """The text with a field in the object that holds these values."""
    start = 0
    for value in address:
        start = text.index(json.dumps(value, ensure_ascii=False), start)
    begin, end = text.rindex("{", 0, start), text.index("}", start)
    body = text[begin:end]
    for known in ('"sha256_prefix"', f'"{field}"'):
        if known in body and field == "sha256":
            at = body.index(known)
            stop = min(x for x in (body.find(",", at), body.find("\n", at), len(body)) if x > 0)
            body = f'{body[:at]}"{field}": "{sha256}"{body[stop:]}'
            return text[:begin] + body + text[end:]
    stem = body.rstrip()
    indent = stem[stem.rindex("\n") : len(stem) - len(stem[stem.rindex("\n") :].lstrip())]
    return text[:begin] + f'{stem},{indent}"{field}": "{sha256}"' + body[len(stem) :] + text[end:]
