"""Real servers that speak S3, each a process of its own: moto, and rclone over a folder.

moto keeps conditions such as If-None-Match and takes any credentials; rclone checks the signature and ignores
conditions.
"""

import contextlib
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from boto3.session import Session
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from core.supervisor import die_with_parent
from tests.support.installation import free_port

ACCESS_KEY_ID = "AKIDOFTHETESTS0000"
SECRET_ACCESS_KEY = "secret-of-the-tests-0123456789abcdef"
START_SECONDS = 30


class BucketServer:
    """`url` of the endpoint; `s3`: a client past the service, for what the operator or another program does."""

    def __init__(self, url: str, certificate: Path | None = None) -> None:
        self.url = url
        self.s3: Any = Session().client(
            "s3",
            endpoint_url=url,
            verify=None if certificate is None else str(certificate),
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name="us-east-1",
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def new_bucket(self) -> str:
        name = f"nbl-{secrets.token_hex(6)}"
        self.s3.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())]


def bucket_settings(url: str, bucket: str, **more: str) -> dict[str, str]:
    """The settings of a service that keeps its images there."""
    return {
        "R2_ENABLED": "true", "R2_ENDPOINT_URL": url, "R2_BUCKET_NAME": bucket,
        "R2_ACCESS_KEY_ID": ACCESS_KEY_ID, "R2_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    } | more  # fmt: skip


@contextlib.contextmanager
def running_moto(address: str = "127.0.0.1") -> Iterator[BucketServer]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", address, "-p", str(port)]
    with _running(command, port, address):
        yield BucketServer(f"http://{address}:{port}")


@contextlib.contextmanager
def running_moto_tls(folder: Path) -> Iterator[BucketServer]:
    """Under a certificate of its own, which only those trust who are told to: `folder / "certificate.pem"`."""
    port, certificate, key = free_port(), folder / "certificate.pem", folder / "key.pem"
    certify(certificate, key)
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with _running([*command, "-s", "-c", str(certificate), "-k", str(key)], port):
        yield BucketServer(f"https://127.0.0.1:{port}", certificate)


def certify(certificate: Path, key: Path, address: str = "127.0.0.1", *names: str) -> None:
    """A certificate of an address and of names, signed by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)), *map(x509.DNSName, names)]),
            critical=False,
        )
        .sign(private, SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@contextlib.contextmanager
def running_rclone(folder: Path) -> Iterator[BucketServer]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("rclone")), "serve", "s3", str(folder)]
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"]
    options += ["--config", "", "--vfs-cache-mode", "off"]
    with _running(command + options, port):
        yield BucketServer(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def _running(command: list[str], port: int, address: str = "127.0.0.1") -> Iterator[None]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, preexec_fn=die_with_parent(),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(address, port):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command[0]} does not start"
            time.sleep(0.02)
        yield
    finally:
        process.kill()  # asked to end, rclone first waits for connections that are kept open
        process.wait()


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
