"""From a person's mail to an adapter that writes as she does.

* `trainer.corpus`: the mails to learn from, and the newest ones, held out to judge by.
* `trainer.playback`: the instruction that could have produced each mail, by the model or, with
  `trainer.extractive`, from the mail's own words; `trainer.check` judges it, and `trainer.recall`
  tells which of the mail's facts (`trainer.facts`) it carries.
* `trainer.prompt`: the one prompt builder; `trainer.examples`: mails in tokens and in rows;
  `trainer.loss`: how well a model foretells them.
* `trainer.base_model`: the language model; `trainer.embedding`: the encoder of retrieval.
* `trainer.rosa`: low-rank and sparse adapters; `trainer.finetune`: their training, by
  `trainer.run` (epochs, hold-out, checkpoints) and `trainer.step`, in one process or several
  (`trainer.ranks`).
* `trainer.evaluation`: perplexity; `trainer.overlap`, `trainer.style`, `trainer.mauve`: how alike
  drafts are to the owner's mails; `trainer.bootstrap`: how far scores may be off.
* `trainer.generate`: drafts, by `trainer.lookup` in fewer passes and by `trainer.repeats` without
  repetition.
* `trainer.adapters`: the adapters there are, and the one in use.
* `trainer.errors`: what all of them raise.
"""
