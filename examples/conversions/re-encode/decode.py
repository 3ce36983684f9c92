#!/usr/bin/env python3
"""Finds out how a text was encoded and writes it as UTF-8, one JSON line for each."""
import base64
import json
import sys

# What latin1 means to the server: code page 1252, and where that has nothing, the
# character with the byte's own number.
LATIN1 = {}
for byte in range(256):
    try:
        LATIN1[bytes([byte]).decode("cp1252")] = byte
    except UnicodeDecodeError:
        LATIN1[chr(byte)] = byte


def encoded_twice(text):
    """The text that was taken for latin1 and encoded again, or None."""
    if text.isascii() or any(c not in LATIN1 for c in text):
        return None
    try:
        return bytes(LATIN1[c] for c in text).decode("utf-8")
    except UnicodeDecodeError:
        return None


def decode(raw):
    """The text and the name of its encoding. Raises ValueError where none fits."""
    try:
        text = raw.decode("utf-8")
        inner = encoded_twice(text)
        return (text, "utf8") if inner is None else (inner, "utf8 twice")
    except UnicodeDecodeError:
        pass
    if whole_utf8_characters(raw):
        raise ValueError("UTF-8 that is cut off or damaged: " + raw.decode("utf-8", "replace")[-40:])
    high = [b for b in raw if b >= 0x80]
    if any(0x80 <= b < 0xC0 and b not in b"\x80\x84\x85\x93\x94\x96\x97\xa0\xb8\xa8" for b in high):
        raise ValueError("bytes that are neither UTF-8 nor text of a code page")
    letters = [b for b in raw if b >= 0xC0 or chr(b).isascii() and chr(b).isalpha()]
    if sum(b >= 0xC0 for b in letters) * 2 > len(letters):
        return raw.decode("cp1251"), "cp1251"
    return raw.decode("cp1252"), "latin1"


def whole_utf8_characters(raw):
    """Some of the text is UTF-8 beyond doubt, though not all of it."""
    return any(not c.isascii() for c in raw.decode("utf-8", "ignore"))


for line in sys.stdin:
    row = json.loads(line)["rows"][0]
    try:
        for column in ("title", "body"):
            row[column], row["was"] = decode(base64.b64decode(row[column]["base64"]))
        answer = {"rows": [row]}
    except ValueError as fault:
        answer = {"reject": f"{column}: {fault}"}
    print(json.dumps(answer), flush=True)
