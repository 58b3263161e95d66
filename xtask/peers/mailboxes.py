"""Reads an exported mailbox with Python's mailbox module, and prints what it has as JSON.

Arguments: maildir or mbox, the folder.
"""

import json
import mailbox
import os
import sys

form, folder = sys.argv[1:]


def shown(name, box):
    mails = []
    for key in sorted(box.keys()):
        mail = box[key]
        mails.append(
            {
                "mailbox": name,
                "subject": mail["Subject"],
                "flags": mail.get_flags(),
                "body": mail.as_string() if mail.is_multipart() else mail.get_payload(),
                "from": mail.get_from() if form == "mbox" else "",
                "date": mail.get_date() if form == "maildir" else 0,
            }
        )
    return mails


found = []
if form == "maildir":
    root = mailbox.Maildir(folder, create=False)
    found += shown("Inbox", root)
    for name in sorted(root.list_folders()):
        found += shown(name, root.get_folder(name))
else:
    for name in sorted(os.listdir(folder)):
        found += shown(name, mailbox.mbox(os.path.join(folder, name), create=False))
print(json.dumps(found))
