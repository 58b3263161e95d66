"""Logs in to an IMAP server with mail tokens of postrider.

imap_token.py API IMAP_PORT ADDRESS PASSWORD

The API is the base of the mailbox API. A token logs in until it is revoked, and a wrong one never
does. The scope and the user of the token are the IMAP server's own question to postrider.
"""

import base64
import imaplib
import json
import sys
import urllib.parse
import urllib.request

api, port, address, password = sys.argv[1:]
basic = base64.b64encode(f"{address}:{password}".encode()).decode()


def call(path, body, kind):
    request = urllib.request.Request(
        api + path,
        data=body.encode(),
        headers={"Authorization": f"Basic {basic}", "Content-Type": kind},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def log_in(user, token):
    """Whether the IMAP server takes the token."""
    imap = imaplib.IMAP4("127.0.0.1", int(port), timeout=30)
    response = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
    # The server may send a reason first, which the client answers with an empty line.
    responses = iter([response, b""])
    try:
        imap.authenticate("XOAUTH2", lambda _: next(responses, b""))
    except imaplib.IMAP4.error:
        return False
    status, _ = imap.select("INBOX")
    imap.logout()
    return status == "OK"


given = call("auth/mail-token", "{}", "application/json")
token = given["access_token"]
assert given["email"] == address, given
assert log_in(address, token), "a good token does not log in"
assert not log_in(address, token[:-4] + "AAAA"), "a wrong token logs in"
assert not log_in("other@app.example", token), "a token logs in somebody else"
form = urllib.parse.urlencode({"token": token})
call("auth/token/revoke", form, "application/x-www-form-urlencoded")
assert not log_in(address, token), "a token logs in after its end"
