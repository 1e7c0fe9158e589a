"""RoSA, robust adaptation (arXiv 2401.04679): a low-rank and a sparse update, trained together."""

from trainer.rosa.config import RosaConfig
from trainer.rosa.model import RosaModel, get_rosa_model, load_rosa_model

__all__ = ["RosaConfig", "RosaModel", "get_rosa_model", "load_rosa_model"]
