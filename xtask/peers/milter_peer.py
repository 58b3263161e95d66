"""A mail filter made with python3-milter, for a test of the server's side of the protocol.

It listens on the socket of its argument. What it does depends on the local-part of the sender:

accept, reject, tempfail, discard   at MAIL
code                                a reply of several lines at the end of the message
all                                 all changes of the message
progress                            it works on for a while
body                                it adds a field with the SHA-256 of what it was told

A recipient whose local-part is no gets a refusal.
"""

import hashlib
import sys

import Milter


class Filter(Milter.Base):
    def negotiate(self, options):
        # The decorator for this does not work in Python 3.
        self._ctx.setsymlist(Milter.M_CONNECT, "j {client_addr}")
        self._ctx.setsymlist(Milter.M_ENVFROM, "i {auth_type} {daemon_port}")
        return super().negotiate(options)

    def connect(self, name, family, address):
        self.client = f"{name} {address}"
        return Milter.CONTINUE

    def hello(self, name):
        self.helo = name
        return Milter.CONTINUE

    def envfrom(self, sender, *parameters):
        self.case = sender.strip("<>").partition("@")[0]
        self.parameters = " ".join(parameters)
        self.recipients = []
        self.hash = hashlib.sha256()
        verdicts = {
            "accept": Milter.ACCEPT,
            "reject": Milter.REJECT,
            "tempfail": Milter.TEMPFAIL,
            "discard": Milter.DISCARD,
        }
        return verdicts.get(self.case, Milter.CONTINUE)

    def envrcpt(self, recipient, *parameters):
        if recipient.startswith("<no@"):
            self.setreply("550", "5.1.1", "100%% unknown")
            return Milter.REJECT
        self.recipients.append(recipient)
        return Milter.CONTINUE

    @Milter.decode("bytes")
    def header(self, name, value):
        self.hash.update(name.encode() + b":" + value + b"\n")
        return Milter.CONTINUE

    def body(self, chunk):
        self.hash.update(chunk)
        return Milter.CONTINUE

    def eom(self):
        if self.case == "code":
            self.setreply("554", "5.7.1", "first 50%%", "second")
            return Milter.REJECT
        if self.case == "progress":
            for _ in range(3):
                self.progress()
        if self.case == "body":
            self.addheader("X-Hash", self.hash.hexdigest())
        if self.case == "all":
            # The name of the daemon was not asked for.
            symbols = ["i", "j", "{auth_type}", "{client_addr}", "{daemon_port}", "{daemon_name}"]
            values = [f"{name}={self.getsymval(name)}" for name in symbols]
            self.addheader("X-Macros", " ".join(values))
            self.addheader("X-Client", f"{self.client} {self.helo} {self.parameters}")
            self.addheader("X-Fold", "one\n\ttwo")
            self.addheader("X-Top", "top", 0)
            self.addheader("X-Second", "second", 1)
            self.chgheader("Subject", 1, "changed")
            self.chgheader("X-Old", 1, "")
            self.chgheader("X-New", 1, "new")
            self.chgfrom("<other@s.test>", "RET=HDRS")
            self.addrcpt("<added@d.test>")
            self.addrcpt("<with@d.test>", "NOTIFY=NEVER")
            self.delrcpt("<b@d.test>")
            self.replacebody("new body\r\n" * 10_000)
            self.quarantine("looks odd")
        return Milter.CONTINUE


Milter.factory = Filter
Milter.set_flags(
    Milter.ADDHDRS
    | Milter.CHGBODY
    | Milter.ADDRCPT
    | Milter.DELRCPT
    | Milter.CHGHDRS
    | Milter.QUARANTINE
    | Milter.CHGFROM
    | Milter.ADDRCPT_PAR
    | Milter.SETSYMLIST
)
Milter.runmilter("filter", sys.argv[1], 60)
