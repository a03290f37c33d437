"""LangChain tools over real data: each returns {"summary": what to say, "data": the figures}.

This room knows CSV files, one SQLite database a domain, and arithmetic. It knows nothing of agents,
models, prompts or who is asking; where things lie and what time it is arrive in
`config["configurable"]`: `data` (folder of CSVs), `state` (writable folder), `key` (idempotency
key), `now` (aware datetime).
"""
