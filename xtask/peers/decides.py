"""A milter by python3-milter (Milter). It decides by the subject of a message.

Usage: decides.py SOCKET
"""

import sys

import Milter


class Decides(Milter.Base):
    """Refuses, holds, drops or changes a message."""

    def __init__(self):
        self.subject = ""
        self.queue_id = None

    def envfrom(self, sender, *words):
        self.subject = ""
        self.queue_id = self.getsymval("i")
        return Milter.CONTINUE

    def header(self, name, value):
        if name.lower() == "subject":
            self.subject = value
        return Milter.CONTINUE

    def eom(self):
        if "refuse" in self.subject:
            self.setreply("554", "5.7.1", "the milter refuses")
            return Milter.REJECT
        if "drop" in self.subject:
            return Milter.DISCARD
        if "hold" in self.subject:
            self.quarantine("the milter holds it")
            return Milter.ACCEPT
        if "change" in self.subject:
            self.addheader("X-Milter", f"seen as {self.queue_id is not None}")
            self.chgheader("Subject", 1, "changed by the milter")
            self.replacebody("Another body.\r\n")
            self.chgfrom("<other@elsewhere.example>")
        return Milter.ACCEPT


def main():
    """Serves until it is killed."""
    Milter.factory = Decides
    Milter.set_flags(
        Milter.ADDHDRS + Milter.CHGHDRS + Milter.CHGBODY + Milter.CHGFROM + Milter.QUARANTINE
    )
    Milter.runmilter("decides", f"unix:{sys.argv[1]}", 300)


main()
