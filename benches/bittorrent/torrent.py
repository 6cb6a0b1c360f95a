#!/usr/bin/env python3
"""Makes the torrent of one file for the other clients: torrent.py FILE ANNOUNCE-URL TORRENT. Pieces of 1 MiB."""
import hashlib
import os
import sys

PIECE = 1 << 20


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    items = sorted((key.encode(), item) for key, item in value.items())
    return b"d" + b"".join(bencode(key) + bencode(item) for key, item in items) + b"e"


def main():
    path, announce, torrent = sys.argv[1:]
    hashes = []
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            hashes.append(hashlib.sha1(piece).digest())
    info = {
        "length": os.path.getsize(path),
        "name": os.path.basename(path),
        "piece length": PIECE,
        "pieces": b"".join(hashes),
        "private": 1,
    }
    with open(torrent, "wb") as file:
        file.write(bencode({"announce": announce, "info": info}))


main()
