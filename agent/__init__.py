"""Retune: a runtime for domain agents whose models are tuned from their own conversations."""
