"""Submits one message with Python's smtplib, logged in, asking for DSNs (RFC 3461).

Usage: notify.py PORT LOGIN PASSWORD SENDER RECIPIENT SUBJECT NOTIFY
"""

import smtplib
import sys
from email.message import EmailMessage


def main() -> None:
    port, login, password, sender, recipient, subject, notify = sys.argv[1:]
    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = subject
    message.set_content("Tell me what becomes of it.\n")
    with smtplib.SMTP("127.0.0.1", int(port), timeout=30) as client:
        client.ehlo()
        if not client.has_extn("dsn"):
            sys.exit("dsn was not offered")
        client.login(login, password)
        client.send_message(message, sender, [recipient], mail_options=["RET=HDRS"], rcpt_options=[f"NOTIFY={notify}"])


main()
