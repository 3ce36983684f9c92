#!/usr/bin/python3 -ISE
"""Keeps posted lines in a file. HTTP/1.1 with keep-alive, standard library only.

GET answers with the log; POST appends its body as one line and answers only
once that is on disk. Every answer names the version of the server.
"""
import os
import socket
import threading

LOG = "/var/lib/small/log"
VERSION = "{{.version}}"
append = threading.Lock()


def read_head(stream):
    """Returns method and headers, or None at the end of the connection."""
    request = stream.readline(65536).split()
    if len(request) != 3:
        return None
    headers = {}
    while True:
        line = stream.readline(65536).strip()
        if not line:
            return request[0], request[2], headers
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()


def store(body):
    with append:
        fd = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, body.rstrip(b"\n") + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)


def answer(method, body):
    if method in (b"GET", b"HEAD"):
        with open(LOG, "rb") as f:
            return b"200 OK", f.read()
    if method == b"POST":
        store(body)
        return b"201 Created", b"stored\n"
    return b"405 Method Not Allowed", b""


def serve(conn):
    with conn, conn.makefile("rb") as stream:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            head = read_head(stream)
            if head is None:
                return
            method, protocol, headers = head
            wanted = headers.get(b"connection", b"").lower()
            close = wanted == b"close" or (protocol != b"HTTP/1.1" and wanted != b"keep-alive")
            body = stream.read(int(headers.get(b"content-length", b"0")))
            status, content = answer(method, body)
            reply = (b"HTTP/1.1 %s\r\nServer: small\r\nX-Version: %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                     b"Content-Length: %d\r\nConnection: %s\r\n\r\n"
                     % (status, VERSION.encode(), len(content), b"close" if close else b"keep-alive"))
            conn.sendall(reply + (b"" if method == b"HEAD" else content))
            if close:
                return


def serve_quietly(conn):
    try:
        serve(conn)
    except (OSError, ValueError):
        conn.close()  # the client went away or talks something else


def main():
    listener = socket.create_server(("", 80), backlog=128)
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=serve_quietly, args=(conn,), daemon=True).start()


main()
