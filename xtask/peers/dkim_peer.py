"""Signs and verifies messages with dkimpy and authheaders, for a test that compares them with us.

Each line on standard input is a command, with its arguments behind tabs and in base64. One line
answers it:

zone NAME RECORD                the TXT record of a name from now on
keys RSA ED25519                the private keys: PKCS#8 in base64, and a seed in base64
sign ALGORITHM FORMS NAMES TEXT a DKIM-Signature field
verify TEXT                     "pass" or "fail" for each DKIM signature from the top
results TEXT                    the result of the first signature by authheaders
arc-sign NAMES TEXT             the fields of one more ARC set
arc-verify TEXT                 "none", "pass" or "fail"
"""

import base64
import re
import sys

import authheaders
import dkim

DOMAIN, SELECTORS = b"example.org", {b"rsa-sha256": b"rsa", b"ed25519-sha256": b"ed"}
zone: dict[bytes, bytes] = {}
keys: dict[bytes, bytes] = {}


def txt(name, timeout=5):
    name = name if isinstance(name, bytes) else name.encode()
    return zone.get(name.rstrip(b"."))


def text_txt(name, timeout=5):
    record = txt(name)
    return record.decode() if record else None


def verified(text: bytes, index: int) -> str:
    try:
        passes = dkim.DKIM(text).verify(index, dnsfunc=txt)
    except dkim.DKIMException:
        passes = False
    return "pass" if passes else "fail"


def run(command: bytes, arguments: list[bytes]) -> bytes:
    if command == b"zone":
        zone[arguments[0]] = arguments[1]
        return b""
    if command == b"keys":
        pem = b"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n" % arguments[0]
        keys.update({b"rsa-sha256": pem, b"ed25519-sha256": arguments[1]})
        return b""
    if command == b"sign":
        algorithm, forms, names, text = arguments
        signer = dkim.DKIM(text, signature_algorithm=algorithm)
        return signer.sign(
            SELECTORS[algorithm],
            DOMAIN,
            keys[algorithm],
            canonicalize=tuple(forms.split(b"/")),
            include_headers=names.split(b":"),
        )
    if command == b"verify":
        (text,) = arguments
        count = len(re.findall(rb"^DKIM-Signature:", text.split(b"\r\n\r\n")[0], re.M | re.I))
        return " ".join(verified(text, index) for index in range(count)).encode()
    if command == b"results":
        field = authheaders.authenticate_message(
            arguments[0], "mx.test", dkim=True, spf=False, arc=False, dmarc=False, dnsfunc=text_txt
        )
        return " ".join(re.findall(r"\bdkim=(\w+)", field)).encode()
    if command == b"arc-sign":
        names, text = arguments
        fields = dkim.ARC(text).sign(
            b"rsa", DOMAIN, keys[b"rsa-sha256"], b"mx.test", include_headers=names.split(b":")
        )
        return b"".join(fields)
    if command == b"arc-verify":
        result, _, _ = dkim.ARC(arguments[0]).verify(dnsfunc=txt)
        return result or b"fail"
    raise ValueError(command)


for line in sys.stdin.buffer:
    command, *arguments = line.rstrip(b"\n").split(b"\t")
    answer = run(command, [base64.b64decode(argument) for argument in arguments])
    sys.stdout.buffer.write(base64.b64encode(answer) + b"\n")
    sys.stdout.buffer.flush()
