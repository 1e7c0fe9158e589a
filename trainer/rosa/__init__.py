"""RoSA, robust adaptation (arXiv 2401.04679): a low-rank and a sparse update, trained together.

This folder needs torch, transformers, PEFT and safetensors, and nothing else of Panza: it can be
lifted out and used on any transformers model. docs/rosa.md tells how, and what the files hold.
"""

from trainer.rosa.config import RosaConfig
from trainer.rosa.model import RosaModel, get_rosa_model, load_rosa_model

__all__ = ["RosaConfig", "RosaModel", "get_rosa_model", "load_rosa_model"]
