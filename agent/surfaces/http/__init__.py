"""The agent over HTTP, as any OpenAI client expects it. `agent.surfaces.http.app.make_app` makes the app; nothing is loaded here."""
