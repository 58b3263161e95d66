"""Signs and verifies messages with OpenDKIM, for a test that compares it with us.

It is a mail server to OpenDKIM: it speaks the milter protocol, version 6. Each line on standard
input is a command, with its arguments behind tabs and in base64. One line answers it:

zone NAME RECORD                the TXT record of a name from now on
keys RSA ED25519                the private keys: PKCS#8 in base64, and a seed in base64
sign ALGORITHM FORMS NAMES TEXT a DKIM-Signature field
verify TEXT                     "pass" or "fail" for each DKIM signature from the top, or "unread":
                                OpenDKIM leaves out signatures that it can't read

Zone and keys come first.
"""

import base64
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

DOMAIN, SELECTORS = "example.org", {"rsa-sha256": "rsa", "ed25519-sha256": "ed"}
# PKCS#8 (RFC 8410) has this in front of a seed.
ED25519 = bytes.fromhex("302e020100300506032b657004220420")
# Header values keep the space behind the colon. Unknown commands and DATA are not told.
LEADING_SPACE, NO_UNKNOWN, NO_DATA = 0x100000, 0x100, 0x200

folder = tempfile.TemporaryDirectory()
zone: dict[str, str] = {}
keys: dict[str, str] = {}
running: dict[str, tuple[subprocess.Popen, str]] = {}


def path(name: str) -> str:
    return os.path.join(folder.name, name)


def write(name: str, text: str) -> str:
    with open(os.open(path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path(name)


def answers(address: str) -> bool:
    try:
        socket.socket(socket.AF_UNIX).connect(address)
    except OSError:
        return False
    return True


def opendkim(name: str, settings: str) -> str:
    """The socket of a process with these settings."""
    if name not in running:
        address = path(name + ".socket")
        config = f"Socket local:{address}\nSyslog no\nAuthservID peer.example\n{settings}\n"
        arguments = ["opendkim", "-f", "-x", write(name + ".conf", config)]
        running[name] = subprocess.Popen(arguments), address
        deadline = time.monotonic() + 20
        while not answers(address):
            if time.monotonic() > deadline or running[name][0].poll() is not None:
                raise RuntimeError(f"OpenDKIM does not start with {config}")
            time.sleep(0.01)
    return running[name][1]


class Milter:
    """One message on its way through a milter."""

    def __init__(self, address: str):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address)
        self.stream = self.socket.makefile("rb")

    def tell(self, command: bytes, data: bytes = b"") -> None:
        self.socket.sendall(struct.pack(">I", len(data) + 1) + command + data)

    def answer(self) -> tuple[bytes, bytes]:
        (length,) = struct.unpack(">I", self.stream.read(4))
        packet = self.stream.read(length)
        return packet[:1], packet[1:]

    def step(self, command: bytes, data: bytes = b"") -> bool:
        """Whether the milter wants to see more."""
        self.tell(command, data)
        answer, _ = self.answer()
        if answer not in (b"a", b"c", b"O"):
            raise RuntimeError(f"{command} was answered by {answer}")
        return answer != b"a"

    def fields(self, text: bytes) -> list[tuple[bytes, bytes]]:
        """Passes a message, and gives the fields that the milter adds."""
        section, _, body = text.partition(b"\r\n\r\n")
        self.step(b"O", struct.pack(">III", 6, 0x1FF, LEADING_SPACE | NO_UNKNOWN | NO_DATA))
        self.step(b"C", b"localhost\0" + b"4" + struct.pack(">H", 4711) + b"127.0.0.1\0")
        self.step(b"H", b"localhost\0")
        self.step(b"M", b"<ann@example.org>\0")
        self.step(b"R", b"<bob@example.com>\0")
        for field in re.split(rb"\r\n(?![ \t])", section):
            name, _, value = field.partition(b":")
            self.step(b"L", name + b"\0" + value.replace(b"\r\n", b"\n") + b"\0")
        if not self.step(b"N"):
            # There is no signature that can be read.
            return []
        if body:
            # A message that came over SMTP ends with a line end.
            self.step(b"B", body if body.endswith(b"\r\n") else body + b"\r\n")
        self.tell(b"E")
        added = []
        while True:
            answer, data = self.answer()
            if answer == b"i":
                data = data[4:]
            if answer in (b"h", b"i"):
                name, value, _ = data.split(b"\0")
                added.append((name, value))
            elif answer in (b"a", b"c"):
                self.socket.close()
                return added
            elif answer != b"m":
                raise RuntimeError(f"the end was answered by {answer} {data}")


def sign(algorithm: str, forms: str, names: str, text: bytes) -> bytes:
    if algorithm == "ed25519-sha256":
        # Version 2.11.0 fails its own Ed25519 signatures if the header is in the simple form.
        forms = "relaxed/" + forms.partition("/")[2]
    settings = [
        "Mode s",
        f"Canonicalization {forms}",
        f"SignatureAlgorithm {algorithm}",
        f"Domain {DOMAIN}",
        f"Selector {SELECTORS[algorithm]}",
        f"KeyFile {keys[algorithm]}",
        # The folder of the key is private, but not the folder above it.
        "RequireSafeKeys no",
        f"SignHeaders {','.join(sorted(set(names.split(':'))))}",
        "OversignHeaders From",
    ]
    address = opendkim(f"{algorithm}.{forms.replace('/', '.')}", "\n".join(settings))
    for name, value in Milter(address).fields(text):
        if name == b"DKIM-Signature":
            space = b"" if value.startswith(b" ") else b" "
            return name + b":" + space + value.replace(b"\n", b"\r\n") + b"\r\n"
    raise RuntimeError(f"OpenDKIM did not sign {text!r}")


def verify(text: bytes) -> str:
    records = "\n".join(f"{name} {record}" for name, record in zone.items())
    known = write("keys.txt", records + "\n")
    address = opendkim("verifier", f"Mode v\nTestPublicKeys {known}\nAlwaysAddARHeader yes")
    results = []
    for name, value in Milter(address).fields(text):
        if name == b"Authentication-Results":
            results += re.findall(rb"\bdkim=(\w+)", value)
    results = [result for result in results if result != b"none"]
    section = text.split(b"\r\n\r\n")[0]
    if len(results) < len(re.findall(rb"^DKIM-Signature:", section, re.M | re.I)):
        return "unread"
    return " ".join("pass" if result == b"pass" else "fail" for result in results)


def run(command: str, arguments: list[bytes]) -> bytes:
    if command == "zone":
        name, record = arguments
        zone[name.decode()] = record.decode()
        return b""
    if command == "keys":
        seed = base64.b64encode(ED25519 + base64.b64decode(arguments[1]))
        for algorithm, key in [("rsa-sha256", arguments[0]), ("ed25519-sha256", seed)]:
            pem = f"-----BEGIN PRIVATE KEY-----\n{key.decode()}\n-----END PRIVATE KEY-----\n"
            keys[algorithm] = write(algorithm + ".pem", pem)
        return b""
    if command == "sign":
        *settings, text = arguments
        return sign(*(setting.decode() for setting in settings), text)
    if command == "verify":
        return verify(arguments[0]).encode()
    raise ValueError(command)


try:
    for line in sys.stdin.buffer:
        command, *arguments = line.rstrip(b"\n").split(b"\t")
        answer = run(command.decode(), [base64.b64decode(argument) for argument in arguments])
        sys.stdout.buffer.write(base64.b64encode(answer) + b"\n")
        sys.stdout.buffer.flush()
finally:
    for process, _ in running.values():
        process.kill()
        process.wait()
