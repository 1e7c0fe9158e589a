"""What runs: it joins the mail of `connectors` with the models of `trainer`.

* `daemon.cli`: the command line; `daemon.commands` and `daemon.model_commands` are its commands,
  `daemon.check` is `panza check`.
* `daemon.config`: panza.yaml; `daemon.secret` fetches passwords, with `daemon.leash` for those that
  a command tells; `daemon.accounts` makes an account's connectors.
* `daemon.store`, `daemon.database`, `daemon.schema`, `daemon.runs`: what is kept of an account.
* `daemon.sync`: new sent mail in; `daemon.retrieval`: what earlier mail is near to a request.
* `daemon.training`, `daemon.evaluating`, `daemon.material`: from stored mails to an adapter in use;
  `daemon.columns` has the models judged, `daemon.promotion` decides, `daemon.score_table` shows it.
* `daemon.writer`: drafts; `daemon.recipients`: whom they are for; `daemon.habit`: how they quote;
  `daemon.compose`: their bytes.
* `daemon.requests`: the folder "Panza requests", with `daemon.scan` and `daemon.sightings`. Whose
  word counts: `daemon.trust`, `daemon.authres`; what is asked: `daemon.intake`,
  `daemon.header_lines`, `daemon.originals`; what comes of it: `daemon.journal`, `daemon.delivery`,
  `daemon.notes`, `daemon.post`.
* `daemon.service`: `panza run`, the mail process: a `daemon.worker` for each account, and the
  schedule of `daemon.jobs`, with `daemon.cron`, `daemon.backoff`, `daemon.troubles` and
  `daemon.notify`.
* `daemon.protocol`: what mail process and model process say to each other; `daemon.model_link` is
  the mail process's end, with `daemon.training_job`; `daemon.model_process` starts the other one.
* `daemon.model_server`: `panza model`, the model process, on the socket of `daemon.activation`:
  `daemon.model_desk` writes with `daemon.models`, `daemon.model_child` and `daemon.model_job` do
  what takes long in a process of its own; `daemon.offline` shuts the network off.
* `daemon.demo`: all of it on a sample mailbox.
* `daemon.errors`: every fault, and what to do about it.
"""
