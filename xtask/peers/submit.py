"""Submits one message with Python's smtplib, logged in, over STARTTLS or TLS.

Usage: submit.py starttls|tls PORT LOGIN PASSWORD SENDER RECIPIENT SUBJECT [login]

With the last word it logs in with LOGIN, else with what smtplib chooses, which is PLAIN.
"""

import smtplib
import ssl
import sys
from email.message import EmailMessage


def main() -> None:
    mode, port, login, password, sender, recipient, subject, *mechanism = sys.argv[1:]
    # The server made its certificate itself.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = subject
    message.set_content("Grüße.\n.\n..a line that begins with dots\n")
    message.add_attachment(bytes(range(256)), maintype="application", subtype="octet-stream", filename="bytes")

    if mode == "tls":
        client = smtplib.SMTP_SSL("127.0.0.1", int(port), timeout=30, context=context)
    else:
        client = smtplib.SMTP("127.0.0.1", int(port), timeout=30)
    with client:
        if mode == "starttls":
            client.ehlo()
            client.starttls(context=context)
        client.ehlo()
        for extension in ("auth", "pipelining", "8bitmime", "smtputf8", "enhancedstatuscodes", "size"):
            if not client.has_extn(extension):
                sys.exit(f"{extension} was not offered")
        try:
            client.login(login, password + "x")
            sys.exit("a wrong password was taken")
        except smtplib.SMTPAuthenticationError as error:
            if error.smtp_code != 535:
                sys.exit(f"a wrong password gave {error.smtp_code}")
        if mechanism == ["login"]:
            client.user, client.password = login, password
            client.auth("LOGIN", client.auth_login)
        else:
            client.login(login, password)
        refused = client.send_message(message)
        if refused:
            sys.exit(f"refused: {refused}")


main()
