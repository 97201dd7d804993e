"""An https server of this machine with a certificate of its own, for tests that fetch from URLs."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_httpserver import HTTPServer


def make_certificate(folder: Path) -> Path:
    """A file with a certificate for 127.0.0.1 and localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def https_server(certificate: Path) -> HTTPServer:
    """A server with that certificate, not started."""
    return HTTPServer(host="127.0.0.1", ssl_context=_server_context(certificate))


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@contextlib.contextmanager
def slow_server(certificate: Path, start: bytes | None, drip: bytes) -> Iterator[str]:
    """URL of a server for one connection that answers `start`, and then `drip` every 20 ms; no TLS without `start`."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_sockets:
            connection = open_sockets.enter_context(listener.accept()[0])
            if start is not None:
                tls = _server_context(certificate).wrap_socket(connection, server_side=True)
                connection = open_sockets.enter_context(tls)
                connection.recv(65536)
                connection.sendall(start)
            # An end, so that a client without a time limit fails and does not hang.
            for _ in range(250):
                if ended.wait(0.02):
                    break
                connection.sendall(drip)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/x.csv"
    finally:
        ended.set()
        thread.join()
        listener.close()
