"""ClickHouse's HTTP interface over a ClickHouse that is a library, for `cargo xtask compat`.

Older versions are to be had as Python modules that do not listen. This listens for them, in as much
of the interface as the sink and plain questions use: settings in the address, blocks of the format
Native as a body, compression in both directions, and the server's own words for an error. One
request at a time: the library is one session.

Called as: bridge.py FOLDER SECONDS. Prints the version and the port in one line, and serves until its
standard input ends, or for so long.
"""

import json
import os
import re
import signal
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

import lz4.block
from chdb import session
from clickhouse_cityhash.cityhash import CityHash128

# Parameters of the interface itself; all others are settings of the query.
OWN = {
    "query", "database", "default_format", "compress", "decompress", "user", "password",
    "query_id", "session_id", "wait_end_of_query", "buffer_size", "http_make_head_request",
}
LZ4 = 0x82
NONE = 0x02
# A block of compressed data.
HEAD = struct.Struct("<BII")
LARGEST = 1 << 20

# The library reads what follows an insert from the standard input, too: it finds nothing there.
alive = os.fdopen(os.dup(0), "rb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

folder = sys.argv[1]
# Ends the process whatever the library is doing.
signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.alarm(int(sys.argv[2]))
database = session.Session(os.path.join(folder, "data"))
body_file = os.path.join(folder, "body.native")


def run(sql, form="TSV"):
    """The bytes that the library answers; its words are raised."""
    answer = database.query(sql, form)
    # Some versions raise, some put the words beside the answer.
    words = getattr(answer, "error_message", None)
    words = words() if callable(words) else None
    if words:
        raise RuntimeError(words)
    return answer.bytes() or b""


def decompressed(data):
    out, at = [], 0
    while at < len(data):
        method, packed, plain = HEAD.unpack_from(data, at + 16)
        block = data[at + 16 + HEAD.size : at + 16 + packed]
        if method not in (LZ4, NONE):
            raise RuntimeError(f"Code: 89. DB::Exception: compression {method:#x} is not known")
        out.append(lz4.block.decompress(block, plain) if method == LZ4 else block)
        at += 16 + packed
    return b"".join(out)


def compressed(data):
    out = []
    for at in range(0, len(data), LARGEST):
        plain = data[at : at + LARGEST]
        block = lz4.block.compress(plain, store_size=False)
        block = HEAD.pack(LZ4, len(block) + HEAD.size, len(plain)) + block
        low, high = CityHash128(block)
        out.append(struct.pack("<QQ", low, high) + block)
    return b"".join(out)


def rows_of(block):
    """The rows that a block of the format Native says it has."""
    numbers, at = [], 0
    while len(numbers) < 2:
        number, shift = 0, 0
        while True:
            byte = block[at]
            number |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        numbers.append(number)
    return numbers[1]


def escaped(value):
    return value.replace("\\", "\\\\").replace("'", "\\'")


def answer(parameters, body):
    """The body of the answer, and how many rows were written."""
    settings = {name: value for name, value in parameters.items() if name not in OWN}
    sql = parameters.get("query", "")
    if parameters.get("decompress") == "1":
        body = decompressed(body)
    written = 0
    insert = re.fullmatch(r"(\s*INSERT\s.*)\sFORMAT Native\s*", sql, re.DOTALL)
    if insert:
        written = rows_of(body)
        with open(body_file, "wb") as file:
            file.write(body)
        sql = f"{insert[1]} FROM INFILE '{escaped(body_file)}' COMPRESSION 'none' FORMAT Native"
    else:
        sql = (sql + "\n" + body.decode()).strip().rstrip(";")
    if "database" in parameters:
        run("USE `" + parameters["database"].replace("`", "\\`") + "`")
    try:
        for name, value in settings.items():
            run(f"SET {name} = '{escaped(value)}'")
        out = run(sql, parameters.get("default_format", "TSV"))
    finally:
        for name in settings:
            try:
                run(f"SET {name} = DEFAULT")
            except Exception:
                pass
    return out, written


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        out = []
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            out.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(out)

    def do_POST(self):
        body = self.body()
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        headers = {"Content-Type": "application/octet-stream"}
        try:
            out, written = answer(parameters, body)
            status = 200
            rows = str(written)
            summary = {"read_rows": rows, "written_rows": rows, "result_rows": rows}
            headers["X-ClickHouse-Summary"] = json.dumps(summary)
            if parameters.get("compress") == "1":
                out = compressed(out)
        except Exception as error:
            words = str(error)
            status = 500
            number = re.search(r"Code: (\d+)", words)
            headers["X-ClickHouse-Exception-Code"] = number[1] if number else "1002"
            out = words.encode()
        self.send_response(status)
        headers["Content-Length"] = str(len(out))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(out)
        self.close_connection = True


def main():
    version = run("SELECT version()").decode().strip()
    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(json.dumps({"version": version, "port": server.server_port}), flush=True)
    threading.Thread(target=lambda: (alive.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


main()
