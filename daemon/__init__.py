"""What runs: it joins the mail of `connectors` with the models of `trainer`.

* `daemon.cli`: the command line; `daemon.commands` and `daemon.model_commands` are its commands,
  `daemon.check` is `panza check`.
* `daemon.config`: panza.yaml; `daemon.secret` fetches passwords, `daemon.accounts` makes an
  account's connectors.
* `daemon.store`, `daemon.database`, `daemon.schema`, `daemon.runs`: what is kept of an account.
* `daemon.sync`: new sent mail in; `daemon.retrieval`: what earlier mail is near to a request.
* `daemon.training`, `daemon.evaluating`, `daemon.material`: from stored mails to an adapter in use.
* `daemon.writer`: drafts; `daemon.recipients`: whom they are for; `daemon.compose`: their bytes.
* `daemon.requests`: the folder "Panza requests", with `daemon.scan`, `daemon.intake`,
  `daemon.trust`, `daemon.sightings`, `daemon.journal`, `daemon.delivery` and `daemon.notes`.
* `daemon.service`: `panza run`, the mail process: a `daemon.worker` for each account, and the
  schedule of `daemon.jobs`, with `daemon.cron`, `daemon.backoff`, `daemon.troubles`, `daemon.notify`.
* `daemon.model_server`: `panza model`, the model process; `daemon.protocol` is what both say,
  `daemon.model_link` and `daemon.model_process` are the mail process's end of it,
  `daemon.offline` shuts the network off.
* `daemon.demo`: all of it on a sample mailbox.
* `daemon.errors`: every fault, and what to do about it.
"""
