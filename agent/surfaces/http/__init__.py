"""The agent over HTTP, as any OpenAI client expects it: `agent.surfaces.http.app.make_app`. Nothing is loaded here."""
