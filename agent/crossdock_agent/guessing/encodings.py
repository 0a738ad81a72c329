"""Which encoding bytes are in. UTF-8 and UTF-16 prove themselves; single-byte code pages only look plausible."""

from __future__ import annotations

import codecs
import unicodedata
from collections import Counter
from itertools import pairwise

from crossdock_agent.guessing import Guess

CANDIDATES = ("cp1252", "cp850", "cp437", "iso8859-15", "cp1250")  # the first of equals wins
EBCDIC = "cp500"
_COMMON = "äöüßéèàçåøæñ"  # letters of western European words, the usual ones worth more
_LETTERS = _COMMON + "ÄÖÜêëâôîïûùáíóúÉÀÇÑÁÍÓÚÅÆØ"
_SIGNS = "€§°µ£²³´·½¼«»–—‘’“”…®™±×"  # that business text does hold
_SHOWN_LINES = 3
_EBCDIC_SPACE, _ASCII_SPACE = 0x40, 0x20
_EBCDIC_DIGITS = range(0xF0, 0xFA)


def guess(data: bytes) -> Guess:
    """The encoding of *data*, which may end in the middle of a character."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            return Guess("encoding", name, f"it begins with the byte order mark of {name}", sure=True)
    if wide := _wide(data):
        return Guess("encoding", wide, "every second byte is zero, as in UTF-16 without its mark", sure=True)
    if data.isascii():
        return Guess("encoding", "utf-8", "only ASCII so far: utf-8 and every code page read it alike")
    if _is_utf8(data):
        count = sum(1 for c in data.decode("utf-8", "ignore") if ord(c) > 127)
        return Guess("encoding", "utf-8", f"{count} characters beyond ASCII, all valid UTF-8", sure=True)
    if _looks_ebcdic(data):
        return Guess("encoding", EBCDIC, "bytes of EBCDIC (spaces are 0x40, digits 0xF0 to 0xF9); the national variant "
                     "(cp037, cp273, cp1141 ...) is for whoever writes the file to say")  # fmt: skip
    return _code_page(data)


def differing_lines(data: bytes, one: str, other: str) -> list[tuple[str, str]]:
    """The first lines that read differently in two encodings, as both would read them."""
    found = []
    for line in data.splitlines():
        if line.isascii():
            continue
        pair = (line.decode(one, "replace"), line.decode(other, "replace"))
        if pair[0] != pair[1]:
            found.append(pair)
        if len(found) == _SHOWN_LINES:
            break
    return found


def ranked(data: bytes) -> list[tuple[str, float]]:
    """Code pages by how plausible their letters are, best first."""
    high = [line for line in data.splitlines() if not line.isascii()]
    scores = [(name, _score(b"\n".join(high).decode(name, "replace"))) for name in CANDIDATES]
    return sorted(scores, key=lambda pair: (-pair[1], CANDIDATES.index(pair[0])))


def _code_page(data: bytes) -> Guess:
    order = ranked(data)
    best, second = order[0], order[1]
    position = next(i for i, byte in enumerate(data) if byte > 127)
    said = f"not valid UTF-8 (byte 0x{data[position]:02X} at offset {position})"
    others = [name for name, score in order[1:] if score == best[1]]
    if others:
        why = f"a guess: its letters look no better than in {', '.join(others)}"
    else:
        why = f"a guess: its letters look more plausible than in {second[0]}"
    return Guess("encoding", best[0], f"{said}; {why}. Ask whoever writes the file")


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=False)
    except UnicodeDecodeError:
        return False
    return True


def _wide(data: bytes) -> str:
    sample = data[:4096]
    half = len(sample) // 2
    if half < 4:
        return ""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * half and odd < 0.05 * half else ""


def _looks_ebcdic(data: bytes) -> bool:
    counts = Counter(data)
    high = sum(n for byte, n in counts.items() if byte >= 0x80)
    digits = sum(counts[byte] for byte in _EBCDIC_DIGITS)
    return high > len(data) / 3 and counts[_EBCDIC_SPACE] + digits > 5 * counts[_ASCII_SPACE] + len(data) / 20


def _score(text: str) -> float:
    """Letters among letters are plausible; boxes, control characters and capitals inside words are not."""
    score = 0.0
    for before, c in pairwise(" " + text):
        if ord(c) < 128:
            continue
        if c in _LETTERS:
            score += -1.0 if c.isupper() and before.islower() else 2.5 if c in _COMMON else 2.0
        elif c in _SIGNS:
            score += 0.5 if not before.isalpha() or c in "°²³" else -0.5
        else:
            category = unicodedata.category(c)
            score -= 0.5 if category in {"Ll", "Lu"} else 3.0 if category in {"Cc", "Cn"} or c == "\ufffd" else 2.0
    return score
