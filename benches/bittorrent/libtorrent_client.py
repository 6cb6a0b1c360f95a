#!/usr/bin/env python3
"""libtorrent as a client: libtorrent_client.py TORRENT DIRECTORY. Says COMPLETE when it has everything, and seeds."""
import sys
import time

import libtorrent


def main():
    session = libtorrent.session({
        "listen_interfaces": "0.0.0.0:6881",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        "allow_multiple_connections_per_ip": True,
        "unchoke_slots_limit": 8,
        "request_queue_time": 1,
        "max_out_request_queue": 64,
        "min_reconnect_time": 1,
        "min_announce_interval": 2,
    })
    info = libtorrent.torrent_info(sys.argv[1])
    torrent = session.add_torrent({"ti": info, "save_path": sys.argv[2]})
    said = False
    while True:
        if not said and torrent.status().is_seeding:
            said = True
            print("COMPLETE", flush=True)
        time.sleep(0.05)


main()
