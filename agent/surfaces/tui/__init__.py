"""The terminal UI: shows the agent's events and calls its rooms; no agent logic. Imports no model library at the top."""
