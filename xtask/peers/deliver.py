"""Delivers a message to an MX, as another mail server does.

Arguments: the port on 127.0.0.1, the recipient.
"""

import smtplib
import sys

port, recipient = sys.argv[1:]
message = (
    "From: Bob <bob@elsewhere.example>\r\n"
    f"To: <{recipient}>\r\n"
    "Subject: by LMTP\r\n"
    "\r\n"
    "Hello,\r\n"
    ".a line with a dot\r\n"
)
with smtplib.SMTP("127.0.0.1", int(port)) as server:
    server.sendmail("bob@elsewhere.example", [recipient], message)
