"""Mail in and out.

* `connectors.base`: the contract of every place that keeps mail, its vocabulary and its errors.
* `connectors.imap`, `connectors.maildir`, `connectors.mbox`: an account on a server, an account or
  archive in a Maildir, an archive in an mbox file.
* `connectors.memory`: the same in memory, for tests.
* `connectors.mail`: what one message says, read from its bytes.
* `connectors.readers`: messages to mails in processes of their own, under hard limits.
* `connectors.signatures`: what one person's signatures are, learned from their repetition.
"""
