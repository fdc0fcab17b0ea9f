"""What members are told without asking: by mail, at once or once a day, and as an Atom feed.

What happens is written down for each member whom it concerns in the transaction that makes it
happen (`recording`). What a notice says is put in words when it is told (`wording`), so that nobody
is told of what is not shown to them by then. `letters` gathers notices into mails, `sender` sends
them, `feed` is the same news for who would rather fetch them.
"""
