#!/usr/bin/env python3
"""A tracker for the other clients that tells everybody of everybody: tracker.py PORT."""
import http.server
import socket
import struct
import sys
import urllib.parse

PEERS = {}


class Tracker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query, encoding="latin-1")
        address = self.client_address[0]
        if query.get("event") == ["stopped"]:
            PEERS.pop(address, None)
        else:
            PEERS[address] = int(query["port"][0])
        others = [(ip, port) for ip, port in PEERS.items() if ip != address]
        peers = b"".join(socket.inet_aton(ip) + struct.pack(">H", port) for ip, port in others)
        body = b"d8:intervali2e12:min intervali1e5:peers%d:%se" % (len(peers), peers)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Tracker).serve_forever()
