"""Sends a DSN (RFC 3464) composed by Python's email package to a server's MX.

Usage: report.py PORT RETURN_ADDRESS RECIPIENT ACTION STATUS DIAGNOSTIC
"""

import smtplib
import sys
from email.message import Message
from email.mime.base import MIMEBase
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid


def report(returned_to: str, recipient: str, action: str, status: str, diagnostic: str) -> MIMEMultipart:
    about_message = Message()
    about_message["Reporting-MTA"] = "dns; mx.elsewhere.example"
    about_message["Arrival-Date"] = formatdate()
    about_recipient = Message()
    about_recipient["Final-Recipient"] = f"rfc822; {recipient}"
    about_recipient["Action"] = action
    about_recipient["Status"] = status
    if diagnostic:
        about_recipient["Diagnostic-Code"] = f"smtp; {diagnostic}"
    delivery_status = MIMEBase("message", "delivery-status")
    delivery_status.set_payload([about_message, about_recipient])

    original = Message()
    original["From"] = returned_to
    original["To"] = recipient
    original["Subject"] = "what was sent"
    original.set_payload("gone\n")

    whole = MIMEMultipart("report", report_type="delivery-status")
    whole["From"] = "Mail Delivery System <mailer-daemon@mx.elsewhere.example>"
    whole["To"] = returned_to
    whole["Subject"] = "Delivery report"
    whole["Date"] = formatdate()
    whole["Message-ID"] = make_msgid(domain="mx.elsewhere.example")
    whole["Auto-Submitted"] = "auto-replied"
    whole.attach(MIMEText("Über Ihre Nachricht.\n", _charset="utf-8"))
    whole.attach(delivery_status)
    whole.attach(MIMEMessage(original))
    return whole


def main() -> None:
    port, returned_to, recipient, action, status, diagnostic = sys.argv[1:]
    with smtplib.SMTP("127.0.0.1", int(port), timeout=30) as client:
        client.send_message(report(returned_to, recipient, action, status, diagnostic), "", [returned_to])


main()
