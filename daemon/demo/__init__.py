"""`panza demo`: the whole main job, with no account.

* `daemon.demo.mailbox`: an invented person and her mail, out of `mailbox.yaml`.
* `daemon.demo.server`: a real IMAP server on loopback, in a process of its own.
* `daemon.demo.run`: sync, training, a request and its draft, side by side with the untrained model.
"""
